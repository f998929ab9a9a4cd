"""Requests without end, to see whether any of them is lost."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: a status and who answered, or an error. Times are of time.monotonic().

    `said` is the beginning of an answer other than 200.
    """

    began: float
    seconds: float
    status: int | None = None
    replica: str = ""
    version: str = ""
    error: str = ""
    said: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass(slots=True)
class Load:
    """Requests from `threads` threads for as long as the `with` block runs.

    Every other thread keeps its connection open, as browsers and pools do; those ask once more on a
    fresh connection when a kept one turns out to be closed before anything was answered (`reopened`
    counts that). Everything else that is not a 200 is a failure.
    """

    address: str
    host: str
    path: str = "/"
    method: str = "GET"
    body: bytes | None = None
    threads: int = 4
    pause: float = 0.002
    outcomes: list[Outcome] = field(default_factory=list)
    reopened: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        for number in range(self.threads):
            thread = threading.Thread(target=self._run, args=(number % 2 == 1,), daemon=True)
            self._running.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.ok]

    @property
    def count(self) -> int:
        return len(self.outcomes)

    def replicas(self, *, since: float = 0.0) -> Counter[str]:
        """How many requests each replica (by pid) has answered."""
        return Counter(each.replica for each in self.outcomes if each.ok and each.began >= since)

    def versions(self, *, since: float = 0.0) -> Counter[str]:
        return Counter(each.version for each in self.outcomes if each.ok and each.began >= since)

    def flow(self, requests: int = 100, *, within: float = 60.0) -> None:
        """Return once that many more requests are through, so that what follows happens under load."""
        wanted, deadline = self.count + requests, time.monotonic() + within
        while self.count < wanted:
            assert time.monotonic() < deadline, f"only {self.count} of {wanted} requests within {within} s"
            time.sleep(0.01)

    def _run(self, keep: bool) -> None:
        connection = self._connect()
        while not self._stop.is_set():
            kept = connection.sock is not None
            began = time.monotonic()
            try:
                outcome = self._ask(connection, began)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                connection.close()
                if kept:
                    self.reopened += 1
                    continue
                outcome = Outcome(began, time.monotonic() - began, error=repr(error))
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                outcome = Outcome(began, time.monotonic() - began, error=repr(error))
            self.outcomes.append(outcome)
            if not keep:
                connection.close()
            self._stop.wait(self.pause)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        name, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(name, int(port), timeout=60)

    def _ask(self, connection: http.client.HTTPConnection, began: float) -> Outcome:
        connection.request(self.method, self.path, self.body, {"Host": self.host})
        answer = connection.getresponse()
        body = answer.read()
        return Outcome(
            began,
            time.monotonic() - began,
            answer.status,
            answer.headers.get("X-Replica", ""),
            answer.headers.get("X-Version", ""),
            said="" if answer.status == 200 else body[:200].decode(errors="replace"),
        )
