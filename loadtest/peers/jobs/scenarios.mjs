// What is measured. Each prepares, marks the time that counts, and waits for all jobs.

// Jobs that are added before the time that counts, so that every connection is open and every function compiled.
const WARM_UP = 200;
// How long jobs may be under way at the end.
const SETTLE_MS = 60_000;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// So many jobs a second, while the workers mostly wait: how long until one is begun.
export async function idle({ system, ledger, plan, mark }) {
  await warmUp(system, ledger);
  await mark("begin");
  ledger.restart();
  const before = ledger.begun;
  const count = Math.round(plan.rate * plan.seconds);
  const start = performance.now();
  const adding = [];
  for (let job = 0; job < count; job += 1) {
    await sleep(start + (job * 1000) / plan.rate - performance.now());
    adding.push(system.add(ledger.next()));
  }
  await Promise.all(adding);
  await settled(ledger);
  await mark("end", outcome(ledger, ledger.begun - before, start));
}

// Jobs that wait already: how fast they are done.
export async function drain({ system, ledger, plan, mark }) {
  await warmUp(system, ledger);
  await system.pause();
  await mark("adding");
  let start = performance.now();
  await add(system, ledger, plan.jobs, plan.adders);
  await mark("added", outcome(ledger, plan.jobs, start));
  ledger.restart();
  const before = ledger.begun;
  await mark("begin");
  start = performance.now();
  await system.work(ledger);
  await settled(ledger);
  const result = outcome(ledger, ledger.begun - before, start);
  await system.pause();
  await mark("end", result);
}

// Jobs that are added while others are done: how many a second when there are always some that wait.
export async function steady({ system, ledger, plan, mark }) {
  await warmUp(system, ledger);
  let stopped = false;
  const adder = async () => {
    while (!stopped) {
      if (ledger.lost < plan.outstanding) await system.add(ledger.next());
      else await sleep(1);
    }
  };
  const adders = Array.from({ length: plan.adders }, adder);
  await sleep(1000);
  await mark("begin");
  ledger.restart();
  const before = ledger.begun;
  const start = performance.now();
  await sleep(plan.seconds * 1000);
  const result = outcome(ledger, ledger.begun - before, start);
  await mark("end", result);
  stopped = true;
  await Promise.all(adders);
  await settled(ledger);
}

async function warmUp(system, ledger) {
  await system.work(ledger);
  await add(system, ledger, WARM_UP, 16);
  await settled(ledger);
}

// Adds jobs one by one, as applications do, so many at a time.
async function add(system, ledger, count, atOnce) {
  const end = ledger.added + count;
  const adder = async () => {
    while (ledger.added < end) await system.add(ledger.next());
  };
  await Promise.all(Array.from({ length: atOnce }, adder));
}

async function settled(ledger) {
  const until = performance.now() + SETTLE_MS;
  while (ledger.lost > 0 && performance.now() < until) await sleep(1);
}

function outcome(ledger, jobs, start) {
  const seconds = (performance.now() - start) / 1000;
  return { jobs, seconds, ...ledger.waits() };
}
