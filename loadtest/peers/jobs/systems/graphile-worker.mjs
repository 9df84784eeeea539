// graphile-worker, over PostgreSQL.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const TASK = "bench";
const logger = new Logger(() => () => {});

export async function open({ url, at_once, batch }) {
  const pool = new pg.Pool({ connectionString: url, max: 32 });
  pool.on("error", () => {});
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  await utils.migrate();
  // In batches as https://worker.graphile.org/docs/performance advises.
  const batches = batch > 1 ? { localQueue: { size: at_once + 1 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {};
  const preset = { worker: { connectionString: url, concurrentJobs: at_once, maxPoolSize: at_once + 2, logger, ...batches } };
  let runner;
  return {
    add: (payload) => utils.addJob(TASK, payload),
    async work(ledger) {
      runner = await run({ preset, noHandleSignals: true, taskList: { [TASK]: async (payload) => ledger.begin(payload) } });
    },
    async pause() {
      await runner?.stop();
      runner = undefined;
    },
    async stop() {
      await this.pause();
      await utils.release();
      await pool.end();
    },
  };
}
