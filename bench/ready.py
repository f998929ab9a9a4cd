"""How soon a replica that can answer gets requests: a whole hale, checks with a period of 10 seconds.

From the moment a replica listens, which is when it could first answer 200, to the first request that it
serves, of a client that asks through the gateway again and again. Each run is a deployment of its own, with
all three checks; replicas take their time to start, each another.
"""

import http.client
import json
import statistics

from bench.table import Row, at_most, figure
from bench.whole import Hale, ask, spec, until, whole

DELAYS = [0.1, 0.23, 0.37, 0.5, 0.64, 0.78, 0.91, 1.05, 1.32, 1.6, 1.75, 1.9]
SLOW = 6.0
PAUSE = 0.003


def rows() -> list[Row]:
    with whole() as hale:
        one_run(hale, "warm-up", 0.0)
        runs = [one_run(hale, f"run-{number}", delay) for number, delay in enumerate(DELAYS)]
        slow, _ = one_run(hale, "slow", SLOW)
    taken, looked = zip(*runs, strict=True)
    return [
        figure("listening to first check, p50", statistics.median(looked), "ms"),
        figure("listening to first request, p50", statistics.median(taken), "ms"),
        at_most("listening to first request, max", max(taken), "ms", 150),
        figure(f"the same after a start of {SLOW:g} s", slow, "ms"),
    ]


def one_run(hale: Hale, name: str, delay: float) -> tuple[float, float]:
    """Milliseconds from listening to the first request, and to the first check."""
    wanted = spec(name, replicas=1, period=10, options=("--after", str(delay)))
    deployment = hale.apply(wanted)
    _poll(hale.gateway, f"{name}.localhost")
    (replica,) = hale.replicas(deployment)
    record = json.loads(ask(replica["address"], "GET", "/record")[1])
    hale.call("DELETE", f"deployments/{deployment}")
    return (record["first"] - record["listening"]) * 1000, (record["checked"] - record["listening"]) * 1000


def _poll(gateway: str, host: str) -> None:
    """Ask until there is a 200, on one connection."""
    connection = http.client.HTTPConnection(gateway, timeout=30)

    def served() -> bool:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200

    until(served, f"a request to {host} is served", every=PAUSE)
    connection.close()
