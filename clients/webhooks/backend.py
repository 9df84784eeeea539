#!/usr/bin/env python3
"""A backend that Starling asks and tells: backend.py PORT whsec_SECRET... Needs `pip install standardwebhooks`."""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

port, secrets = int(sys.argv[1]), sys.argv[2:]  # One secret for each hook and webhook that comes here.

def decide(point, data):  # Your own rules, for hooks. Answer soon: somebody waits.
    if point == "send" and "http://" in data["content"]:
        return {"allow": False, "message": "no links, please"}
    if point == "send" and "darn" in data["content"]:
        return {"allow": True, "content": data["content"].replace("darn", "****")}
    return {"allow": True}

def handle(event_id, kind, data):  # Your own work, for webhooks. The same id may come twice.
    print(event_id, kind, json.dumps(data), flush=True)

class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not any(self.verified(secret, body) for secret in secrets):
            return self.answer(401, {"error": "not signed by Starling"})
        request = json.loads(body)
        if "." in request["type"]:
            handle(self.headers["webhook-id"], request["type"], request["data"])
            return self.answer(200, {})
        self.answer(200, decide(request["type"], request["data"]))

    def verified(self, secret, body):
        try:
            Webhook(secret).verify(body, dict(self.headers))
            return True
        except WebhookVerificationError:
            return False

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", port), Backend).serve_forever()
