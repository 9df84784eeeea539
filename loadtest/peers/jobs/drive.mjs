// Adds jobs to one system and does them, in one process, as a plan in JSON says: node drive.mjs PLAN. Prints a line when the time that counts begins,
// and a line with the outcome.
import { createInterface } from "node:readline";

import { Ledger } from "./ledger.mjs";
import { drain, idle, steady } from "./scenarios.mjs";

const plan = JSON.parse(process.argv[2]);
const { open } = await import(`./systems/${plan.system}.mjs`);
const scenario = { idle, drain, steady }[plan.scenario];

const ledger = new Ledger(plan.payload_bytes);
const system = await open(plan);
const say = (line) => new Promise((written) => process.stdout.write(`${JSON.stringify(line)}\n`, written));
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
// Whoever reads this looks at the processor time then. It answers with a line.
const mark = async (event, outcome = {}) => {
  await say({ event, ...outcome });
  await answers.next();
};
await scenario({ system, ledger, plan, mark });
await mark("settled", { lost: ledger.lost, doubled: ledger.doubled });
await system.stop();
process.exit(0);
