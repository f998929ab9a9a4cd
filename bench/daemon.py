"""What the daemon and its command line use: a whole hale with 20 replicas, each with all three checks.

Checks come every second, and there is traffic, so that everything there is has been used when memory is
read. The same daemon is killed and started again, and rolls out a revision.
"""

import resource
import statistics
import subprocess
import sys
import time

from bench.gateway import calling
from bench.table import Row, at_most, figure
from bench.usage import cpu_seconds, memory
from bench.whole import Hale, spec, until, whole

REPLICAS = 20
SETTLE, SECONDS = 22, 25
RUNS = 9
PAUSE = 0.002


def rows() -> list[Row]:
    with whole() as hale:
        empty = memory(hale.pid)
        deployment = hale.up(spec("web", replicas=REPLICAS, period=1))
        with calling(hale.gateway, 4, 5, pause=PAUSE):
            time.sleep(SETTLE)
        before, cpu = memory(hale.pid), cpu_seconds(hale.pid)
        time.sleep(SECONDS)
        share = (cpu_seconds(hale.pid) - cpu) / SECONDS * 100
        after = memory(hale.pid)
        return [
            figure("hale serve, no deployment", empty, "MB"),
            at_most("hale serve, 20 replicas", after, "MB", 100),
            figure("hale serve, 20 replicas, its share (PSS)", memory(hale.pid, "Pss"), "MB"),
            at_most(f"memory that {SECONDS} s of checks add", after - before, "MB", 1),
            figure("its CPU at 40 checks a second", share, "% of a core"),
            *_others(hale),
            *_starts(hale),
            *_adoption(hale, deployment),
            _rollout(hale),
        ]


def _others(hale: Hale) -> list[Row]:
    """The processes beside the daemon that are there whatever is deployed."""
    rows = []
    for name, words in (("HAProxy", b"haproxy"), ("the replicas' keeper", b"keeper.py")):
        pids = [pid for pid, command in hale.processes().items() if words in command]
        rows.append(figure(f"{name} ({len(pids)} processes)", sum(memory(pid, "Pss") for pid in pids), "MB"))
    return rows


def _starts(hale: Hale) -> list[Row]:
    """The command line, beside a Python that does nothing: in turn."""
    contenders = {
        "list": hale.command("list"),
        "help": [sys.executable, "-m", "hale.cli.main", "--help"],
        "python": [sys.executable, "-c", "pass"],
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    used = []
    for _ in range(RUNS):
        for name, words in contenders.items():
            seconds, cpu = _run(words)
            taken[name].append(seconds * 1000)
            if name == "list":
                used.append(cpu * 1000)
    listing, helping, nothing = (statistics.median(taken[name]) for name in contenders)
    ratio = statistics.median(a / b for a, b in zip(taken["list"], taken["python"], strict=True))
    return [
        at_most("hale list", listing, "ms", 400),
        figure("hale list, its CPU time", statistics.median(used), "ms"),
        figure("hale --help", helping, "ms"),
        figure("python -c pass", nothing, "ms"),
        figure("hale list / python -c pass", ratio, ""),
    ]


def _run(words: list[str]) -> tuple[float, float]:
    """Seconds that it takes, and seconds of CPU time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _adoption(hale: Hale, deployment: str) -> list[Row]:
    pids = sorted(each["pid"] for each in hale.replicas(deployment))
    hale.kill()
    took = hale.start()
    adopted = sorted(each["pid"] for each in hale.replicas(deployment) if each["ready"])
    return [
        figure("kill -9 of the daemon, its next start until its API answers", took * 1000, "ms"),
        at_most("replicas that were not adopted", len(set(pids) - set(adopted)), "", 0),
    ]


def _rollout(hale: Hale) -> Row:
    wanted = spec("rolling", replicas=4, period=10)
    deployment = hale.up(wanted)
    began = time.monotonic()
    hale.apply(wanted | {"env": [{"name": "VERSION", "value": "2"}]})
    until(lambda: hale.all_ready(deployment, revision=2), "all are of revision 2")
    return figure("rolling update of 4 replicas", (time.monotonic() - began) * 1000, "ms")
