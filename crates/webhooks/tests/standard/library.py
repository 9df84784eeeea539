# Does with the PyPI package `standardwebhooks` what library.cjs does with the npm package.
import json
import sys
from datetime import datetime, timezone

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError


def verified(request):
    headers = {
        "webhook-id": request["id"],
        "webhook-timestamp": str(request["timestamp"]),
        "webhook-signature": request["signature"],
    }
    try:
        Webhook(request["secret"]).verify(request["body"], headers)
        return True
    except WebhookVerificationError:
        return False


def signed(request):
    at = datetime.fromtimestamp(request["timestamp"], tz=timezone.utc)
    return Webhook(request["secret"]).sign(request["id"], at, request["body"])


asked = json.load(sys.stdin)
answer = {"verified": [verified(request) for request in asked["requests"]], "signed": [signed(request) for request in asked["sign"]]}
print(json.dumps(answer))
