//! The least that a WebSocket node with fan-out can do, to divide the figures of other servers by.
//!
//! One thread and one epoll loop. A message is framed once, and the bytes of all messages of one turn are written to each socket in one piece.
//! Between nodes goes Redis pub/sub, with the commands of a turn in one write. It knows no users, no limits and no heartbeats: it is a floor,
//! not a product.

mod client;
mod redis;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use starling_peers_load::frames::{self, CLOSE, PING, PONG, TEXT};
use starling_peers_load::poller::{Poller, Ready};

use client::Client;
use redis::Redis;

const LISTENER: usize = 0;
const SUBSCRIBER: usize = 1;
const PUBLISHER: usize = 2;
/// Keys of clients begin here.
const CLIENTS: usize = 3;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 18;
/// Clients that a node takes at most.
const CLIENTS_MAX: usize = 100_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, redis] = words.as_slice() else { bail!("usage: peers-limit PORT REDIS_ADDRESS") };
    let redis: SocketAddr = redis.parse().context("the address of Redis")?;
    let mut node = Node::start(port.parse().context("the port")?, redis)?;
    loop {
        node.turn()?;
    }
}

/// A room: its subscribers, and the frames that wait for the end of the turn.
#[derive(Default)]
struct Room {
    clients: Vec<usize>,
    waiting: Vec<u8>,
}

struct Node {
    poller: Poller,
    listener: TcpListener,
    subscriber: Redis,
    publisher: Redis,
    clients: Vec<Option<Client>>,
    /// Places of clients that have gone.
    free: Vec<usize>,
    names: HashMap<Vec<u8>, usize>,
    rooms: Vec<Room>,
    /// Rooms in which something waits.
    changed: Vec<usize>,
    buffer: Vec<u8>,
    events: Vec<Ready>,
}

impl Node {
    fn start(port: u16, redis: SocketAddr) -> Result<Self> {
        let poller = Poller::new()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("listen")?;
        listener.set_nonblocking(true)?;
        poller.add(&listener, LISTENER, false)?;
        Ok(Self {
            subscriber: Redis::connect(redis, &poller, SUBSCRIBER)?,
            publisher: Redis::connect(redis, &poller, PUBLISHER)?,
            poller,
            listener,
            clients: Vec::new(),
            free: Vec::new(),
            names: HashMap::new(),
            rooms: Vec::new(),
            changed: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            events: Vec::new(),
        })
    }

    /// Handles everything that has happened, then writes each socket once.
    fn turn(&mut self) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.poller.wait(None, &mut events)?;
        for event in &events {
            match event.key {
                LISTENER => self.accept()?,
                SUBSCRIBER => self.read_subscriber()?,
                PUBLISHER => self.publisher.skip(&mut self.buffer)?,
                key => self.client(key - CLIENTS, event)?,
            }
        }
        self.events = events;
        self.write()?;
        self.publisher.flush(&self.poller, PUBLISHER)?;
        self.subscriber.flush(&self.poller, SUBSCRIBER)
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((socket, _)) = self.listener.accept() {
            let index = self.free.pop().unwrap_or(self.clients.len());
            if index >= CLIENTS_MAX {
                return Ok(());
            }
            let client = Client::new(socket, &self.poller, CLIENTS + index)?;
            if index == self.clients.len() {
                self.clients.push(Some(client));
            } else {
                self.clients[index] = Some(client);
            }
        }
        Ok(())
    }

    fn client(&mut self, index: usize, event: &Ready) -> Result<()> {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        if event.writable && !client.flush(&self.poller, CLIENTS + index)? {
            self.end(index);
            return Ok(());
        }
        if !event.readable {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let stays = match client.read(&mut buffer) {
            None => true,
            Some(0) => false,
            Some(all) => self.handle(index, &mut buffer[..all])?,
        };
        self.buffer = buffer;
        if !stays {
            self.end(index);
        }
        Ok(())
    }

    /// Handles what a client sent. Returns whether it stays.
    fn handle(&mut self, index: usize, bytes: &mut [u8]) -> Result<bool> {
        let Some(client) = self.clients[index].as_mut() else { return Ok(false) };
        let mut used = 0;
        if !client.is_open {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                client.keep(bytes);
                return Ok(true);
            };
            if !client.upgrade(&bytes[..end]) || !client.flush(&self.poller, CLIENTS + index)? {
                return Ok(false);
            }
            used = end + 4;
        }
        while let Some(frame) = frames::first(&bytes[used..]) {
            let payload = &mut bytes[used + frame.begin..used + frame.end];
            let Some(mask) = frame.mask else { return Ok(false) };
            frames::unmask(payload, mask);
            match frame.kind {
                CLOSE => return Ok(false),
                PING => {
                    let mut pong = Vec::new();
                    frames::write_server(&mut pong, PONG, payload);
                    self.reply(index, &pong)?;
                }
                _ => self.message(index, payload)?,
            }
            used += frame.end;
        }
        if let Some(client) = self.clients[index].as_mut() {
            client.keep(&bytes[used..]);
        }
        Ok(true)
    }

    fn message(&mut self, index: usize, payload: &[u8]) -> Result<()> {
        if let Some(name) = payload.strip_prefix(b"SUB ") {
            let room = match self.names.get(name) {
                Some(room) => *room,
                None => {
                    self.subscriber.command(&[b"SUBSCRIBE", name]);
                    self.names.insert(name.to_vec(), self.rooms.len());
                    self.rooms.push(Room::default());
                    self.rooms.len() - 1
                }
            };
            self.rooms[room].clients.push(index);
            if let Some(client) = self.clients[index].as_mut() {
                client.rooms.push(room);
            }
            let mut ok = Vec::new();
            frames::write_server(&mut ok, TEXT, b"OK");
            return self.reply(index, &ok);
        }
        if let Some(rest) = payload.strip_prefix(b"PUB ")
            && let Some(space) = memchr::memchr(b' ', rest)
        {
            self.publisher.command(&[b"PUBLISH", &rest[..space], &rest[space + 1..]]);
        }
        Ok(())
    }

    fn reply(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(client) = self.clients[index].as_mut() else { return Ok(()) };
        client.out.extend_from_slice(bytes);
        // A client that has gone is noticed when it is read.
        client.flush(&self.poller, CLIENTS + index).map(drop)
    }

    fn read_subscriber(&mut self) -> Result<()> {
        let (names, rooms, changed) = (&self.names, &mut self.rooms, &mut self.changed);
        self.subscriber.messages(&mut self.buffer, |name, payload| {
            let Some(index) = names.get(name) else { return };
            let Some(room) = rooms.get_mut(*index) else { return };
            if room.waiting.is_empty() {
                changed.push(*index);
            }
            frames::write_server(&mut room.waiting, TEXT, payload);
        })
    }

    /// Writes what waits in the rooms to their clients.
    fn write(&mut self) -> Result<()> {
        for index in std::mem::take(&mut self.changed) {
            let mut waiting = std::mem::take(&mut self.rooms[index].waiting);
            let clients = std::mem::take(&mut self.rooms[index].clients);
            for client in &clients {
                let Some(receiver) = self.clients[*client].as_mut() else { continue };
                if !receiver.write(&waiting, &self.poller, CLIENTS + client)? {
                    self.end(*client);
                }
            }
            waiting.clear();
            let room = &mut self.rooms[index];
            room.waiting = waiting;
            room.clients = clients;
            room.clients.retain(|client| self.clients[*client].is_some());
        }
        Ok(())
    }

    fn end(&mut self, index: usize) {
        let Some(client) = self.clients[index].take() else { return };
        self.free.push(index);
        for room in client.rooms {
            self.rooms[room].clients.retain(|other| *other != index);
        }
    }
}
