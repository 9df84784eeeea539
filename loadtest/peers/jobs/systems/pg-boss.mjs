// pg-boss, over PostgreSQL, which wakes its workers.
import { PgBoss } from "pg-boss";

const QUEUE = "bench";

export async function open({ url, at_once, batch }) {
  const boss = new PgBoss({ connectionString: url, max: 32, useListenNotify: true });
  boss.on("error", (error) => console.error("pg-boss:", error.message));
  await boss.start();
  await boss.createQueue(QUEUE, { notify: true });
  return batch > 1 ? inBatches(boss, batch) : oneByOne(boss, at_once);
}

// Its own worker, which goes on at once while it gets whole batches.
function inBatches(boss, batch) {
  const options = { batchSize: batch, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
  let worker;
  return {
    add: (payload) => boss.send(QUEUE, payload),
    async work(ledger) {
      worker = await boss.work(QUEUE, options, async (jobs) => jobs.forEach((job) => ledger.begin(job.data)));
    },
    async pause() {
      if (worker) await boss.offWork(QUEUE, { id: worker, wait: true });
      worker = undefined;
    },
    stop: () => boss.stop({ graceful: false }),
  };
}

// Its own worker takes one job each half a second at most if it takes one at a time. So this one fetches and completes by itself.
function oneByOne(boss, atOnce) {
  let working = [];
  let stopped = false;
  async function loop(ledger) {
    while (!stopped) {
      const jobs = await boss.fetch(QUEUE);
      if (jobs.length === 0) await new Promise((done) => setTimeout(done, 10));
      for (const job of jobs) {
        ledger.begin(job.data);
        await boss.complete(QUEUE, job.id);
      }
    }
  }
  return {
    add: (payload) => boss.send(QUEUE, payload),
    async work(ledger) {
      stopped = false;
      working = Array.from({ length: atOnce }, () => loop(ledger));
    },
    async pause() {
      stopped = true;
      await Promise.all(working);
    },
    async stop() {
      await this.pause();
      await boss.stop({ graceful: false });
    },
  };
}
