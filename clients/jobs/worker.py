#!/usr/bin/env python3
"""Takes jobs out of a queue and does them: worker.py http://127.0.0.1:8080 TOKEN QUEUE. Needs nothing but Python."""
import json, sys, threading, time, urllib.error, urllib.request

node, token, queue = sys.argv[1:4]

def call(path, body, timeout=60):
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(node + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.load(response)

def do(kind, payload):  # Your own work. Whatever it raises is reported, and the job is tried again.
    if kind == "add":
        return {"sum": sum(payload)}
    raise ValueError(f"no worker knows how to do {kind}")

def keep(job, done):  # Extends the lease while the work goes on.
    while not done.wait(10):
        try:
            call(f"/v1/jobs/{job['job']}/extend", {"lease": job["lease"], "seconds": 30}, timeout=10)
        except OSError as error:
            if getattr(error, "code", None) == 409:  # The lease is over. Anything else passes.
                return

while True:
    try:
        for job in call(f"/v1/queues/{queue}/take", {"wait_seconds": 30, "lease_seconds": 30})["jobs"]:
            done = threading.Event()
            threading.Thread(target=keep, args=(job, done), daemon=True).start()
            try:
                report, body = "done", {"result": do(job["kind"], job["payload"])}
            except Exception as error:
                report, body = "fail", {"error": str(error)}
            done.set()
            answer = call(f"/v1/jobs/{job['job']}/{report}", {"lease": job["lease"], **body})
            print(job["job"], answer["state"], flush=True)
    except OSError as error:  # A 409 says that the lease is over: another worker has the job. Anything else passes.
        print("will try again:", error, file=sys.stderr, flush=True)
        time.sleep(1)
