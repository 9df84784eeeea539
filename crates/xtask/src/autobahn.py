"""Runs Autobahn cases against a WebSocket server: autobahn.py ADDRESS [CASE ...], all cases if none is named.

Prints a line for each case that is not plainly OK, and the counts. Cases that fail run once more: many give an answer half a second,
and a busy machine may stand still for so long. A real fault fails again.
"""

import asyncio
import os
import sys
from collections import Counter

from kosoku import FailureError, _caseindex, run_fuzzingclient

# How many cases run at the same time.
CONCURRENCY = 2


def mend_compression_cases():
    """The cases of groups 12 and 13 take messages as bytes, but get text for those that a server sends uncompressed, as it may."""
    _caseindex.initialize_shims()
    import case12_x_x

    on_message = case12_x_x.onMessage

    def on_bytes(case, message, binary):
        if isinstance(message, str):
            message = message.encode("latin-1")
        return on_message(case, message, binary)

    for case in case12_x_x.Case12_X_X + case12_x_x.Case13_X_X:
        case.onMessage = on_bytes


def verdict(result):
    verdicts = {result.behavior.value, result.behavior_close.value}
    if not result.passed:
        return "FAILED"
    for milder in ("INFORMATIONAL", "NON-STRICT"):
        if milder in verdicts:
            return milder
    return "OK"


def details(result):
    parts = (result.behavior.value, result.result, result.behavior_close.value, result.result_close)
    return " ".join(" ".join(parts).split())


async def run(address, cases):
    try:
        results = await run_fuzzingclient(address, cases or None, concurrency=CONCURRENCY)
    except FailureError as failure:
        results = failure.results
    return {result.case_id: result for result in results}


async def main(address, cases):
    mend_compression_cases()
    results = await run(address, cases)
    failed = [case for case, result in results.items() if verdict(result) == "FAILED"]
    if failed:
        print("once more:", *failed)
        results |= await run(address, failed)
    for case, result in results.items():
        if verdict(result) != "OK":
            print(f"{case:<10} {verdict(result):<14} {details(result)}")
    counts = Counter(verdict(result) for result in results.values())
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    print(f"\n{len(results) - counts['FAILED']} passed, {counts['FAILED']} failed")
    return 0 if results and not counts["FAILED"] else 1


status = asyncio.run(main(sys.argv[1], sys.argv[2:]))
sys.stdout.flush()
# The client's native part may abort while the interpreter shuts down, after all cases have ended. So the interpreter does not shut down.
os._exit(status)
