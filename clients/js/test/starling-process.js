/** Starts the real program for tests, on free ports and in a temporary folder, and ends it by its process id. */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, openSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { once } from "node:events";
import { until } from "./waiting.js";

const SECRET = "a-secret-for-tests-of-32-bytes-or-more";

/**
 * With `env.REDIS_URL` and `env.DATABASE_URL` the node is part of a cluster; without, it stands alone on SQLite.
 * The answer: `url`, `token(user, scope)`, `signal(name)`, `kill()` (at once) and `stop()` (and remove the folder).
 */
export async function startNode({ bin, name, env = {}, port }) {
  const folder = mkdtempSync(join(tmpdir(), "starling-js-"));
  const listen = `127.0.0.1:${port ?? (await freePort())}`;
  const settings = {
    PATH: process.env.PATH,
    DATABASE_URL: `sqlite://${folder}/starling.db`,
    STARLING_LISTEN: listen,
    STARLING_METRICS_LISTEN: `127.0.0.1:${await freePort()}`,
    STARLING_NODE: name,
    STARLING_JWT_SECRET: SECRET,
    ...env,
  };
  const program = resolve(bin);
  const log = join(folder, "log");
  const out = openSync(log, "w");
  const child = spawn(program, ["serve"], { cwd: folder, env: settings, stdio: ["ignore", out, out] });
  const exited = once(child, "exit");
  const url = `http://${listen}`;
  const node = {
    name,
    url,
    log: () => readFileSync(log, "utf8"),
    token: (user, scope) => {
      const args = ["token", "--user", user, ...(scope ? ["--scope", scope] : [])];
      return execFileSync(program, args, { cwd: folder, env: settings, encoding: "utf8" }).trim();
    },
    signal: (name) => child.kill(name),
    kill: async () => {
      child.kill("SIGKILL");
      await exited;
    },
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) await node.kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  const ready = async () => {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}:\n${node.log()}`);
    return fetch(`${url}/ready`).then(({ ok }) => ok, () => false);
  };
  try {
    await until(ready, `${name} is ready`, 60_000);
  } catch (error) {
    const text = node.log();
    await node.stop();
    throw new Error(`${error.message}\n${text}`);
  }
  return node;
}

const given = new Set();

/** Returns a port that nobody listens on and that this process has not used yet. */
export async function freePort() {
  for (;;) {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address();
    server.close();
    await once(server, "close");
    if (given.has(port)) continue;
    given.add(port);
    return port;
  }
}
