/** A load balancer of a few lines: each connection goes to the first of its targets that answers. */
import { once } from "node:events";
import { connect, createServer } from "node:net";

export async function startBalancer(targets) {
  const sockets = new Set();
  const server = createServer((inside) => {
    sockets.add(inside);
    inside.on("close", () => sockets.delete(inside)).on("error", () => {});
    join(inside, [...targets]);
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

function join(inside, targets) {
  const target = targets.shift();
  if (!target) return inside.destroy();
  const { hostname, port } = new URL(target);
  const outside = connect(Number(port), hostname);
  let open = false;
  outside.on("connect", () => {
    open = true;
    inside.pipe(outside).pipe(inside);
  });
  outside.on("error", () => open || join(inside, targets));
  outside.on("close", () => open && inside.destroy());
  inside.on("close", () => outside.destroy());
}
