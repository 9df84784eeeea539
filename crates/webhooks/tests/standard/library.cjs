// Verifies and signs with the npm package `standardwebhooks`. Reads {"requests": [{secret, id, timestamp, signature, body}],
// "sign": [{secret, id, timestamp, body}]}, and answers {"verified": [bool], "signed": [signature]}.
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

function verified({ secret, id, timestamp, signature, body }) {
  const headers = { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": signature };
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}

const asked = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const signed = ({ secret, id, timestamp, body }) => new Webhook(secret).sign(id, new Date(timestamp * 1000), body);
console.log(JSON.stringify({ verified: asked.requests.map(verified), signed: asked.sign.map(signed) }));
