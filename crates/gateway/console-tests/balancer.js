/** Small load balancer: each connection goes to the first of its targets that is ready. */
import { once } from "node:events";
import { connect, createServer } from "node:net";

export async function startBalancer(targets) {
  const sockets = new Set();
  const server = createServer((inside) => {
    sockets.add(inside);
    inside.on("close", () => sockets.delete(inside)).on("error", () => {});
    join(inside, targets);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
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
