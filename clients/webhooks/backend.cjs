// A backend that Starling asks and tells: node backend.cjs PORT whsec_SECRET... Needs `npm install standardwebhooks`.
const { createServer } = require("node:http");
const { Webhook } = require("standardwebhooks");

const [port, ...secrets] = process.argv.slice(2); // One secret for each hook and webhook that comes here.

// Your own rules, for hooks. Answer soon: somebody waits.
function decide(point, data) {
  if (point === "send" && data.content.includes("http://")) return { allow: false, message: "no links, please" };
  if (point === "send" && data.content.includes("darn")) return { allow: true, content: data.content.replaceAll("darn", "****") };
  return { allow: true };
}

// Your own work, for webhooks. The same id may come twice.
function handle(id, type, data) {
  console.log(id, type, JSON.stringify(data));
}

function isVerified(secret, headers, body) {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const answer = (status, value) => response.writeHead(status).end(JSON.stringify(value));
  if (!secrets.some((secret) => isVerified(secret, request.headers, body))) return answer(401, { error: "not signed by Starling" });
  const { type, data } = JSON.parse(body);
  if (!type.includes(".")) return answer(200, decide(type, data));
  handle(request.headers["webhook-id"], type, data);
  answer(200, {});
}).listen(Number(port), "127.0.0.1");
