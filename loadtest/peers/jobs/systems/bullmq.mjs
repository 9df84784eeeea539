// BullMQ, over Redis, which keeps the jobs in memory.
import { Queue, Worker } from "bullmq";

const QUEUE = "bench";
// As many finished jobs as Starling keeps.
const KEPT = { attempts: 3, removeOnComplete: { count: 100 }, removeOnFail: { count: 500 } };

export async function open({ redis, at_once }) {
  const connection = { host: redis.host, port: redis.port };
  const queue = new Queue(QUEUE, { connection, defaultJobOptions: KEPT });
  await queue.waitUntilReady();
  let worker;
  return {
    add: (payload) => queue.add("bench", payload),
    async work(ledger) {
      const options = { connection: { ...connection, maxRetriesPerRequest: null }, concurrency: at_once };
      worker = new Worker(QUEUE, async (job) => ledger.begin(job.data), options);
      worker.on("error", (error) => console.error("BullMQ:", error.message));
      await worker.waitUntilReady();
    },
    async pause() {
      await worker?.close();
      worker = undefined;
    },
    async stop() {
      await this.pause();
      await queue.close();
    },
  };
}
