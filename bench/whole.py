"""A whole hale for benches: the daemon as users start it, in a folder of its own, on free ports.

`with whole() as hale:` leaves nothing running, whatever happens inside.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

T = TypeVar("T")
Json = Any

REPLICA = Path(__file__).with_name("replica.py")


def spec(name: str, *, replicas: int, period: int, options: tuple[str, ...] = ()) -> dict[str, Json]:
    """Replicas of the bench with all three checks; a readiness check that fails once counts."""
    checks = {kind: {"path": f"/{kind}", "periodSeconds": period} for kind in ("startup", "liveness")}
    checks["readiness"] = {"path": "/readiness", "periodSeconds": period, "failureThreshold": 1}
    return {
        "apiVersion": "v1",
        "name": name,
        "command": [sys.executable, "-S", str(REPLICA), *options],
        "resources": {"machineType": "C4", "ports": [8000], "replicas": replicas},
        "healthChecks": checks,
    }


def until(condition: Callable[[], T], what: str, *, within: float = 60.0, every: float = 0.02) -> T:
    """The first true answer of the condition."""
    deadline = time.monotonic() + within
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what}")
        time.sleep(every)
    return answer


def ask(address: str, method: str, path: str, *, body: Json = None, **headers: str) -> tuple[int, str]:
    """Status and text of one request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Hale:
    """`hale serve` on a data folder. It may be killed and started again; the gateway keeps its port."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.gateway = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> float:
        """Start the daemon; seconds until its API answered."""
        (self.data / "api").unlink(missing_ok=True)
        began = time.monotonic()
        words = self.command("serve", "--api", "127.0.0.1:0", "--gateway", self.gateway)
        with (self.data.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._answers, f"hale serve answers; see {log.name}", every=0.005)
        took = time.monotonic() - began
        self.gateway = self.get("server")["gateway"]
        return took

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hale.cli.main", *words, "--data", str(self.data)]

    def cli(self, *words: str) -> None:
        subprocess.run(self.command(*words), check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"hale serve has ended: {(self.data.parent / 'serve.log').read_text()}")
        try:
            return ask((self.data / "api").read_text().strip(), "GET", "/v1/health")[0] == 200
        except OSError:
            return False

    def call(self, method: str, path: str, body: Json = None) -> Json:
        token = (self.data / "token").read_text().strip()
        api = (self.data / "api").read_text().strip()
        status, text = ask(api, method, f"/v1/{path}", body=body, Authorization=f"Bearer {token}")
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {text}")
        return json.loads(text) if text else None

    def get(self, path: str) -> Json:
        return self.call("GET", path)

    def apply(self, wanted: Mapping[str, Json]) -> str:
        """Apply the spec; the id of the deployment."""
        project = next(each["id"] for each in self.get("projects")["items"] if each["name"] == "default")
        answer = self.call("POST", "deployments", {"projectId": project, "config": wanted})
        return str(answer["deploymentId"])

    def replicas(self, deployment: str) -> list[Json]:
        found: list[Json] = self.get(f"deployments/{deployment}/health")["replicas"]
        return found

    def all_ready(self, deployment: str, revision: int = 1) -> bool:
        """Every replica is ready and of this revision."""
        return all(each["ready"] and each["revision"] == revision for each in self.replicas(deployment))

    def up(self, wanted: Mapping[str, Json]) -> str:
        deployment = self.apply(wanted)
        count = wanted["resources"]["replicas"]
        until(lambda: len(self.replicas(deployment)) == count and self.all_ready(deployment), "all are ready")
        return deployment

    def end(self) -> None:
        """End the daemon, the gateway and every replica."""
        if self.process.poll() is None:
            self.cli("down")
        self.process.wait(60)

    def processes(self) -> Mapping[int, bytes]:
        """Command lines of all that belongs to this hale: its folder is in their words or environment."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if words and os.fsencode(self.data) in words + (entry / "environ").read_bytes():
                    found[int(entry.name)] = words
            except OSError:
                continue  # it has ended, or is not ours to see
        return found

    def sweep(self) -> None:
        """Kill what an `end` that broke off has left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def whole() -> Iterator[Hale]:
    with TemporaryDirectory() as folder:
        hale = Hale(Path(folder) / "data")
        hale.data.mkdir()
        try:
            hale.start()
            yield hale
            hale.end()
        finally:
            if hale.process.poll() is None:
                hale.kill()
            hale.sweep()
