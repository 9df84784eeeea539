"""Runs Autobahn cases against a WebSocket server: client.py ADDRESS [CASE ...], all cases when none is named.

Writes a line for each case: its id, its verdict, and what was seen where that is not plainly OK; with tabs in between.
"""

import asyncio
import sys

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


def seen(result):
    if verdict(result) == "OK":
        return ""
    parts = (result.behavior.value, result.result, result.behavior_close.value, result.result_close)
    return " ".join(" ".join(parts).split())


async def main(address, cases):
    mend_compression_cases()
    try:
        results = await run_fuzzingclient(address, cases or None, concurrency=CONCURRENCY)
    except FailureError as failure:
        results = failure.results
    for result in results:
        print(result.case_id, verdict(result), seen(result), sep="\t")


asyncio.run(main(sys.argv[1], sys.argv[2:]))
