"""How soon a failed check stops requests: a whole hale under load, replicas that fail every second check.

From the moment a replica is about to answer a readiness check with 503, to the last request that it read
until it was ready again. All that lies between is in it: the check, the verdict, the word to HAProxy, what
HAProxy had sent by then, and the replica's own turn to read it.
"""

import json
import statistics
import time

from bench.gateway import calling
from bench.table import Row, at_least, at_most, figure
from bench.whole import Hale, ask, spec, until, whole

REPLICAS, CONNECTIONS, SECONDS = 12, 8, 20
PAUSE = float(__import__("os").environ.get("PAUSE", "0.004"))
HOST = "web.localhost"


def rows() -> list[Row]:
    with whole() as hale:
        deployment = hale.apply(spec("web", replicas=REPLICAS, period=1, options=("--flap",)))
        until(lambda: all(each["address"] for each in hale.replicas(deployment)), "all have been started")
        until(lambda: ask(hale.gateway, "GET", "/", Host=HOST)[0] == 200, "requests are served")
        with calling(hale.gateway, CONNECTIONS, SECONDS):
            time.sleep(SECONDS)
        found, requests = _found(hale, deployment)
    return [
        figure("requests", requests / SECONDS, "1/s"),
        at_least("verdicts", len(found), "", 50),
        at_most("answer to last request, p50", statistics.median(found), "ms", 2),
        at_most("answer to last request, p99", found[len(found) * 99 // 100], "ms", 10),
        figure("answer to last request, max", found[-1], "ms"),
    ]


def _found(hale: Hale, deployment: str) -> tuple[list[float], int]:
    """Milliseconds from each refusal to the last request, and how many requests there were."""
    records = [
        json.loads(ask(each["address"], "GET", "/record")[1])
        for each in hale.replicas(deployment)
        if each["address"]
    ]
    late = [(last - refused) * 1000 for record in records for refused, last in record["refused"]]
    return sorted(late), sum(record["requests"] for record in records)
