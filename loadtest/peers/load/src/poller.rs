//! An epoll loop with a timer that is exact to microseconds; the timeout of epoll itself is not.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// The key of the timer's own event.
const TIMER: u64 = u64::MAX;
/// Events that one call returns at most.
const EVENTS_MAX: usize = 1024;

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The key that it was added with.
    pub key: usize,
    /// It has something to read, or its peer has gone.
    pub readable: bool,
    /// It takes bytes again.
    pub writable: bool,
}

/// Waits for many sockets at once.
pub struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    /// A poller without sockets.
    ///
    /// # Errors
    /// When the system allows no more files.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("make an epoll")?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("make a timer")?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self { epoll, timer, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Waits for this socket, too: for bytes, and for room to write if `writes`.
    ///
    /// # Errors
    /// When the system allows no more.
    pub fn add(&self, socket: impl AsFd, key: usize, writes: bool) -> Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(key as u64), flags(writes))?)
    }

    /// Changes whether to wait for room to write.
    ///
    /// # Errors
    /// When the socket was not added.
    pub fn change(&self, socket: impl AsFd, key: usize, writes: bool) -> Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(key as u64), flags(writes))?)
    }

    /// Forgets a socket. One that has ended would be reported again and again.
    pub fn remove(&self, socket: impl AsFd) {
        // It may never have been added.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Waits until something happens, at most this long or for ever, and tells what.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub fn wait(&mut self, longest: Option<Duration>, ready: &mut Vec<Ready>) -> Result<()> {
        ready.clear();
        if let Some(longest) = longest {
            // A timer of zero would never expire.
            let value = Timespec::try_from(longest.max(Duration::from_nanos(1)))?;
            let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        }
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("wait for sockets"),
        }
        let read = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        let sockets = self.events.iter().filter(|event| event.data.u64() != TIMER);
        ready.extend(sockets.map(|event| {
            let flags = event.flags;
            Ready {
                key: event.data.u64() as usize,
                readable: flags.intersects(read),
                writable: flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn flags(writes: bool) -> EventFlags {
    if writes { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_wait_ends_with_its_time_or_with_an_event() {
        let mut poller = Poller::new().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        poller.add(&far, 7, false).unwrap();
        let mut ready = Vec::new();
        poller.wait(Some(Duration::from_micros(300)), &mut ready).unwrap();
        assert!(ready.is_empty());
        near.write_all(b"x").unwrap();
        poller.wait(None, &mut ready).unwrap();
        assert_eq!(ready.iter().map(|ready| (ready.key, ready.readable)).collect::<Vec<_>>(), [(7, true)]);
    }
}
