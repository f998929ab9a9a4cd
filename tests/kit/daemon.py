"""A whole hale for end-to-end tests: the daemon as users start it, its API, its gateway, its processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from kit.load import Load
from kit.processes import end_all, parent_of, processes_of
from kit.until import until

T = TypeVar("T")
Json = Any

REPLICA = Path(__file__).with_name("replica.py")


def replica_command(*options: str) -> list[str]:
    """The test replica with these options (see replica.py)."""
    return [sys.executable, str(REPLICA), *options]


def web_spec(
    name: str = "web",
    *,
    replicas: int = 2,
    options: Sequence[str] = (),
    version: str = "",
    checks: Mapping[str, Mapping[str, object]] | None = None,
    hale: Mapping[str, object] | None = None,
    **fields: object,
) -> dict[str, Json]:
    """A spec of test replicas with three quick checks; `fields` are further keys of the spec.

    `version` comes back in every answer, so that two revisions differ. `checks` changes single checks:
    {"startup": {"failureThreshold": 2}}.
    """
    quick = {"periodSeconds": 1, "timeoutSeconds": 1}
    health = {
        kind: {"path": f"/{kind}"} | quick | dict((checks or {}).get(kind, {}))
        for kind in ("startup", "readiness", "liveness")
    }
    spec: dict[str, Json] = {
        "apiVersion": "v1",
        "name": name,
        "command": replica_command(*options),
        "resources": {"machineType": "C4", "ports": [8000], "replicas": replicas},
        "healthChecks": health,
    }
    if version:
        spec["env"] = [{"name": "VERSION", "value": version}]
    if hale:
        spec["hale"] = dict(hale)
    return spec | fields


class Hale:
    """`hale serve` on a data folder of its own, with free ports.

    A test may kill and start it as it likes; `end` leaves nothing of it running. `data` is named by
    every process that belongs to it, which is how they are found.
    """

    def __init__(
        self, data: Path, *, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        self._options = list(options)
        inherited = {k: v for k, v in os.environ.items() if k not in ("HALE_API_URL", "HALE_TOKEN")}
        self.env = inherited | dict(env or {})
        self._api: httpx.Client | None = None
        self._client = httpx.Client(timeout=60, trust_env=False)
        self._gateway = "127.0.0.1:0"

    # --- its life ---------------------------------------------------------------------------

    def start(self, *, within: float = 60.0) -> "Hale":
        """Start `hale serve` and return once its API answers. A second start keeps the gateway's port."""
        if self.process is not None:
            self.process.wait(timeout=within)
        (self.data / "api").unlink(missing_ok=True)
        command = self.command("serve", "--api", "127.0.0.1:0", "--gateway", self._gateway)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command + self._options,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._up, within=within, what=lambda: f"hale serve answers; its log: {self.log_text()}")
        self._gateway = self.gateway
        return self

    def kill(self, number: signal.Signals = signal.SIGKILL, *, within: float = 60.0) -> int:
        """Send the daemon a signal and wait for its end; its replicas are its own affair."""
        assert self.process is not None, "hale was not started"
        self.process.send_signal(number)
        return self.process.wait(timeout=within)

    def end(self) -> None:
        """Kill the daemon and all that belongs to it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        end_all(self.data)
        self._client.close()
        if self._api is not None:
            self._api.close()

    def processes(self) -> Mapping[int, str]:
        """Everything that runs on behalf of this hale, the daemon too: command line by pid."""
        return processes_of(self.data)

    def gateway_pids(self) -> tuple[int, int]:
        """HAProxy's master and its worker; waits until there is one of each."""

        def both() -> tuple[int, int] | None:
            found = [pid for pid, command in self.processes().items() if "/haproxy -W " in command]
            workers = [pid for pid in found if parent_of(pid) in found]
            masters = [pid for pid in found if pid not in workers]
            return (masters[0], workers[0]) if (len(masters), len(workers)) == (1, 1) else None

        return until(both, what=lambda: f"HAProxy is a master and a worker: {self.processes()}")

    def keeper_pid(self) -> int:
        """The parent of its replicas."""
        found = [pid for pid, command in self.processes().items() if "keeper.py" in command]
        # A child that has not turned into its command yet looks like the keeper itself.
        (keeper,) = [pid for pid in found if parent_of(pid) not in found]
        return keeper

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"hale serve has ended: {self.log_text()}"
        if not ((self.data / "api").exists() and (self.data / "token").exists()):
            return False
        try:
            return self.api.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    # --- the command line -------------------------------------------------------------------

    def command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hale.cli.main", name, "--data", str(self.data), *arguments]

    def cli(self, *arguments: str, within: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run `hale <arguments>` on this data folder; the answer is never checked here."""
        return subprocess.run(
            self.command(*arguments),
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    # --- the API ----------------------------------------------------------------------------

    @property
    def token(self) -> str:
        return (self.data / "token").read_text().strip()

    @property
    def api(self) -> httpx.Client:
        """A client of `/v1` with the token, of the daemon that runs now."""
        url = httpx.URL(f"http://{(self.data / 'api').read_text().strip()}/v1/")
        if self._api is None or self._api.base_url != url:
            if self._api is not None:
                self._api.close()
            headers = {"Authorization": f"Bearer {self.token}"}
            self._api = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
        return self._api

    @property
    def gateway(self) -> str:
        """host:port of the gateway, as the daemon says."""
        return str(self.get("server")["gateway"])

    def get(self, path: str, **query: str | int) -> Json:
        answer = self.api.get(path, params=query)
        assert answer.status_code < 400, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, body: Mapping[str, Json] | None = None) -> Json:
        answer = self.api.post(path, json=body)
        assert answer.status_code < 400, f"POST {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def project(self) -> str:
        """The id of the project `default`."""
        return str(next(each for each in self.get("projects")["items"] if each["name"] == "default")["id"])

    def apply(self, spec: Mapping[str, Json]) -> str:
        """Apply the spec in the project `default`; the deployment's id."""
        answer = self.post("deployments", {"projectId": self.project(), "config": spec})
        return str(answer["deploymentId"])

    def up(self, spec: Mapping[str, Json], *, within: float = 60.0) -> str:
        """Apply the spec and wait until all its replicas are ready and the revision is healthy."""
        deployment = self.apply(spec)
        self.wait_healthy(deployment, within=within)
        return deployment

    def delete(self, deployment: str) -> None:
        answer = self.api.delete(f"deployments/{deployment}")
        assert answer.status_code < 400, f"{answer.status_code} {answer.text}"

    def health(self, deployment: str) -> Json:
        return self.get(f"deployments/{deployment}/health")

    def replicas(self, deployment: str, *, ready: bool | None = None) -> list[Json]:
        """Its replicas as the API shows them, or those that are (not) ready."""
        found = self.health(deployment)["replicas"]
        return [each for each in found if ready is None or each["ready"] is ready]

    def who(self, replica: Json) -> Json:
        """What a replica says of itself, asked past the gateway: requests and checks it has had."""
        return self._client.get(f"http://{replica['address']}/").json()

    def pids(self, deployment: str) -> list[int]:
        return sorted(each["pid"] for each in self.replicas(deployment) if each["pid"])

    def events(self, deployment: str, kind: str = "") -> list[Json]:
        """Its events, the oldest first; with `kind` those whose type begins so."""
        found: list[Json] = []
        query: dict[str, str | int] = {"order": "asc", "limit": 120}
        while True:
            page = self.get(f"deployments/{deployment}/events", **query)
            found += page["items"]
            if not page["hasMore"]:
                return [each for each in found if each["type"].startswith(kind)]
            query["after"] = page["nextPage"]

    # --- waiting ----------------------------------------------------------------------------

    def wait(
        self, condition: Callable[[], T], *, within: float = 60.0, what: str | Callable[[], object] = ""
    ) -> T:
        """The first true answer of the condition."""
        return until(condition, within=within, what=what)

    def wait_ready(self, deployment: str, count: int, *, within: float = 60.0) -> list[Json]:
        """Wait until exactly so many replicas are ready; those."""

        found: list[Json] = []

        def enough() -> bool:
            found[:] = self.replicas(deployment, ready=True)
            return len(found) == count

        until(enough, within=within, what=lambda: f"{count} ready replicas: {self.health(deployment)}")
        return found

    def wait_healthy(self, deployment: str, *, within: float = 60.0) -> None:
        """Wait until the newest revision is healthy and nothing is on its way out any more."""

        def healthy() -> bool:
            spec = self.get(f"deployments/{deployment}")["latestSpec"]
            replicas = self.replicas(deployment)
            return bool(spec["dtHealthy"]) and all(each["ready"] for each in replicas)

        until(healthy, within=within, what=lambda: f"all is healthy: {self.health(deployment)}")

    # --- the gateway ------------------------------------------------------------------------

    def host(self, deployment: str) -> str:
        """The host name that its traffic comes in under."""
        return str(self.get(f"deployments/{deployment}")["endpoint"]).partition(":")[0]

    def ask(self, host: str, path: str = "/", method: str = "GET", **options: Any) -> httpx.Response:
        """One request through the gateway."""
        headers = {"Host": host} | dict(options.pop("headers", {}))
        return self._client.request(method, f"http://{self._gateway}{path}", headers=headers, **options)

    def tell(self, replica: Json, path: str) -> None:
        """One request straight to a replica, past the gateway: "/tell?readiness=503", "/exit?code=3"."""
        try:
            self._client.post(f"http://{replica['address']}{path}")
        except httpx.RemoteProtocolError:
            if not path.startswith("/exit"):
                raise

    @contextmanager
    def asking(
        self, host: str, path: str = "/held", method: str = "GET", **options: Any
    ) -> Iterator[Future[httpx.Response]]:
        """A request that is under way inside the `with` block; its answer is the future's result."""
        with ThreadPoolExecutor(1) as threads:
            yield threads.submit(self.ask, host, path, method, **options)

    def wait_holding(self, replicas: Sequence[Json], count: int = 1) -> Json:
        """Wait until the replicas hold so many requests together; one that holds some."""

        def holding() -> Json:
            held = [(self.who(each)["holding"], each) for each in replicas]
            return max(held, key=lambda pair: pair[0])[1] if sum(n for n, _ in held) == count else None

        return until(holding, what=f"{count} requests are held")

    def load(self, host: str, path: str = "/", **options: Any) -> Load:
        """Requests through the gateway for as long as the `with` block runs."""
        return Load(self._gateway, host, path, **options)
