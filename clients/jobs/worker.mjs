// Takes jobs out of a queue and does them: node worker.mjs http://127.0.0.1:8080 TOKEN QUEUE. Needs nothing but Node 18 or later.
const [node, token, queue] = process.argv.slice(2);

async function call(path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(node + path, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.error.code}: ${answer.error.message}`);
  return answer;
}

// Your own work. Whatever it throws is reported, and the job is tried again.
async function work(kind, payload) {
  if (kind === "add") return { sum: payload.reduce((sum, number) => sum + number, 0) };
  throw new Error(`no worker knows how to do ${kind}`);
}

async function handle({ job, kind, payload, lease }) {
  const extend = () => call(`/v1/jobs/${job}/extend`, { lease, seconds: 30 }).catch(() => {});
  const timer = setInterval(extend, 10_000); // While the work goes on.
  const report = await work(kind, payload).then(
    (result) => ["done", { result }],
    (error) => ["fail", { error: String(error) }],
  );
  clearInterval(timer);
  const { state } = await call(`/v1/jobs/${job}/${report[0]}`, { lease, ...report[1] });
  console.log(job, state);
}

for (;;) {
  try {
    const { jobs } = await call(`/v1/queues/${queue}/take`, { wait_seconds: 30, lease_seconds: 30 });
    await Promise.all(jobs.map(handle));
  } catch (error) {
    // A conflict says that the lease is over: another worker has the job. Anything else passes.
    console.error("will try again:", error.message);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}
