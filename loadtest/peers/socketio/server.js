'use strict';
// A node of Socket.IO with its Redis adapter: `sub` joins a room, `pub` sends to it.
const { createServer } = require('http');
const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const { createClient } = require('redis');

const [port, redisPort] = process.argv.slice(2).map(Number);

async function main() {
  const publisher = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  const subscriber = publisher.duplicate();
  await Promise.all([publisher.connect(), subscriber.connect()]);
  const http = createServer();
  const io = new Server(http, {
    transports: ['websocket'],
    perMessageDeflate: false,
    httpCompression: false,
    serveClient: false,
    adapter: createAdapter(publisher, subscriber, { publishOnSpecificResponseChannel: true }),
  });
  // Its documentation advises this, to save memory.
  io.engine.on('connection', (socket) => { socket.request = null; });
  io.on('connection', (socket) => {
    socket.on('sub', (room, done) => { socket.join(room); done(); });
    socket.on('pub', (room, data) => { io.to(room).emit('m', data); });
  });
  http.listen({ port, host: '127.0.0.1', backlog: 4096 });
}

main().catch((error) => { console.error(error); process.exit(1); });
