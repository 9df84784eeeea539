/**
 * Small load balancer: each connection goes to the first of its targets that is ready. While it is paused, new connections are closed at
 * once; those that are open stay.
 */
import { once } from "node:events";
import { connect, createServer } from "node:net";

export async function startBalancer(targets) {
  const sockets = new Set();
  let paused = false;
  const server = createServer((inside) => {
    if (paused) return inside.on("error", () => {}).destroy();
    sockets.add(inside);
    inside.on("close", () => sockets.delete(inside)).on("error", () => {});
    join(inside, targets);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function join(inside, targets) {
  for (const target of targets) {
    const ready = await fetch(`${target}/ready`).then(({ ok }) => ok, () => false);
    if (ready && !inside.destroyed) return pipe(inside, new URL(target));
  }
  inside.destroy();
}

function pipe(inside, { hostname, port }) {
  const outside = connect(Number(port), hostname);
  outside.on("error", () => {}); // a close follows
  outside.on("close", () => inside.destroy());
  inside.on("close", () => outside.destroy());
  inside.pipe(outside).pipe(inside);
}
