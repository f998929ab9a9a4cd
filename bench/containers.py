"""What exec checks in containers cost, and that 100 containers' worth of them does not starve HTTP checks.

What is measured, and how, is in bench.crowd, which runs as a process of its own.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.table import Row, at_least, at_most, figure
from bench.timer import beside
from bench.watcher import at

CONTAINERS, EXEC_PERIOD = 100, 10
_ENDS_WITHIN = 60
_TESTS = Path(__file__).parents[1] / "tests"

Json = Any


def rows() -> list[Row]:
    with TemporaryDirectory() as folder, beside() as timer:
        told = _told(Path(folder))
        if missing := told.get("missing"):
            return [figure(f"not measured, `make parts` may help; missing: {', '.join(missing)}", 0, "")]
        phases = told["without"], told["beside"]
        spans = [(each["began"], each["ended"]) for phase in phases for each in phase["windows"]]
        bare = timer.late(spans)
    first = len(phases[0]["windows"])
    return [
        *_cost(told["ours"], told["theirs"]),
        figure(f"{CONTAINERS} containers, all ready", told["started"], "s"),
        *_http("HTTP checks alone", phases[0], bare[:first]),
        *_http("HTTP checks beside exec checks", phases[1], bare[first:]),
        *_execs(phases[1]),
    ]


def _told(folder: Path) -> Json:
    """What the measured process found. In a session of its own Ctrl-C reaches it once, through us."""
    path = os.pathsep.join([str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "bench.crowd", str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, start_new_session=True
    )
    try:
        said = process.communicate()[0]
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait(_ENDS_WITHIN)
        raise
    if process.returncode:
        raise RuntimeError(f"cannot measure containers: it ended with {process.returncode}")
    return json.loads(said)


def _cost(ours: Json, theirs: Json) -> list[Row]:
    return [
        figure("one command, hale", ours["clock"], "ms"),
        figure("one command, podman exec", theirs["clock"], "ms"),
        at_most("hale / podman exec", ours["clock"] / theirs["clock"], "", 0.75),
        figure("CPU time of one, hale and all that Podman does for it", ours["cpu"], "ms"),
        figure("CPU time of one, podman exec and all it starts", theirs["cpu"], "ms"),
        at_most("hale / podman exec, CPU time", ours["cpu"] / theirs["cpu"], "", 1),
        figure("CPU time of one, hale's own", ours["own"], "ms"),
    ]


def _http(name: str, phase: Json, bare: Sequence[Sequence[float]]) -> list[Row]:
    """The window in which the bare timer was least late; what is left out or fails counts in all."""
    timer, window = min(zip(bare, phase["windows"], strict=True), key=lambda pair: at(pair[0], 0.99))
    late, own = sorted(window["late"]), sorted(window["own"])
    return [
        at_most(f"{name}: left out or failed, in all", phase["left_out"] + phase["failed"], "", 0),
        figure(f"{name}: late, p50", statistics.median(late), "ms"),
        at_most(f"{name}: late, p99", at(late, 0.99), "ms", 20),
        figure(f"{name}: late, max", late[-1], "ms"),
        at_most(f"{name}: late but for waiting for a core, p99", at(own, 0.99), "ms", 5),
        figure(f"{name}: late but for waiting for a core, max", own[-1], "ms"),
        figure(f"{name}: bare timer, p99", at(timer, 0.99), "ms"),
        figure(f"{name}: bare timer, max", timer[-1], "ms"),
        figure(f"{name}: CPU of hale", window["cpu"], "% of a core"),
    ]


def _execs(phase: Json) -> list[Row]:
    windows, took = phase["windows"], sorted(phase["execs"])
    seconds = windows[-1]["ended"] - windows[0]["began"]
    rate = CONTAINERS / EXEC_PERIOD
    return [
        at_least(f"exec checks, of {rate:g} a second", len(took) / seconds, "1/s", 0.95 * rate),
        at_most("exec checks that failed", phase["execs_failed"], "", 0),
        figure("exec check, tick to result, p50", statistics.median(took), "ms"),
        figure("exec check, tick to result, p99", at(took, 0.99), "ms"),
        figure("exec check, tick to result, max", took[-1], "ms"),
        figure("CPU of Podman and all it starts", phase["podman"], "% of a core"),
    ]
