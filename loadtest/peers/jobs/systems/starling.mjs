// Starling, with workers outside that speak HTTP.
import { Pool } from "undici";

const QUEUE = "bench";

export async function open({ url, token, at_once, batch }) {
  const pool = new Pool(url, { connections: 128, bodyTimeout: 60_000, headersTimeout: 60_000 });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  let working = [];
  let stop = new AbortController();

  async function call(path, body, signal) {
    const { statusCode, body: answer } = await pool.request({ method: "POST", path, headers, body: JSON.stringify(body), signal });
    const text = await answer.text();
    if (statusCode >= 300) throw new Error(`${path}: HTTP ${statusCode} ${text}`);
    return JSON.parse(text);
  }

  async function handle({ job, lease, payload }, ledger) {
    ledger.begin(payload);
    await call(`/v1/jobs/${job}/done`, { lease });
  }

  async function worker(ledger, signal) {
    const wanted = { max: batch, wait_seconds: 30, lease_seconds: 15 };
    while (!signal.aborted) {
      const taken = await call(`/v1/queues/${QUEUE}/take`, wanted, signal).catch((error) => {
        if (signal.aborted) return { jobs: [] };
        throw error;
      });
      await Promise.all(taken.jobs.map((job) => handle(job, ledger)));
    }
  }

  return {
    add: (payload) => call("/v1/jobs", { queue: QUEUE, payload }),
    async work(ledger) {
      stop = new AbortController();
      working = Array.from({ length: at_once / batch }, () => worker(ledger, stop.signal));
    },
    async pause() {
      stop.abort();
      await Promise.all(working);
      working = [];
      // A job that is added before the node knows that the worker has gone would wait for the end of its lease.
      await new Promise((done) => setTimeout(done, 250));
    },
    async stop() {
      await this.pause();
      await pool.close();
    },
  };
}
