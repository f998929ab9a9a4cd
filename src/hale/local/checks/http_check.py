"""One HTTP check: dial, ask, follow redirects, report once.

A chain of callbacks on a Wire, not a coroutine: that, and one answer usually being there whole at the first
look, is what makes a check cheap.
"""

from dataclasses import dataclass
from functools import lru_cache

from hale.core.probe import HttpAction
from hale.core.words import duration
from hale.local.checks.answer import LOCATION, Answer, MalformedAnswerError
from hale.local.checks.body import BODY_LIMIT
from hale.local.checks.connection import Connection
from hale.local.checks.names import Names, Places, numeric
from hale.local.checks.reply import Reply
from hale.local.checks.request import Request, RequestError, after, first_request
from hale.local.checks.text import SHOWN, harmless
from hale.local.checks.wire import PATIENCE, Wire

_REQUESTS = 10
"""Requests in a chain of redirects."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request ready to be sent; without places its host is a name."""

    request: Request
    encoded: bytes
    places: Places


@lru_cache(maxsize=16_384)
def plan(action: HttpAction, host: str, port: int) -> Plan:
    """What to send where for the first request of a check; RequestError if that can't be."""
    return _planned(first_request(action, host, port))


def _planned(request: Request) -> Plan:
    return Plan(request, request.encode(), numeric(request.host, request.port))


class HttpCheck:
    """A check on its way through one connection, or several when it is redirected."""

    __slots__ = (
        "_answer", "_connection", "_due", "_lane", "_latency", "_names", "_plan", "_reply", "_requests",
        "_timeout", "_warning", "_wire",
    )  # fmt: skip

    def __init__(self, wire: Wire, names: Names, plan: Plan, timeout: float, reply: Reply) -> None:
        self._wire = wire
        self._names = names
        self._plan = plan
        self._timeout = timeout
        self._reply = reply
        self._answer = Answer()
        self._connection: Connection | None = None
        self._latency: float | None = None
        self._requests = 0
        self._warning = ""
        self._lane = wire.lane(timeout)
        self._due = self._lane.add(self)

    def begin(self) -> None:
        """Ask; whatever comes of it is told later."""
        self._requests += 1
        if self._plan.places:
            self._connect(self._plan.places)
        else:
            self._names.find(self._plan.request.host, self._plan.request.port, self._found)

    def cancel(self) -> None:
        self._reply.cancel()
        self._lane.discard(self)
        self._hang_up(politely=False)

    def expired(self) -> None:
        """The time is over: for the whole check, or for the rest of a body."""
        if self._answer.status is None:
            self._fail(self._late())
        else:
            self._judge()

    def arrived(self, part: bytes, *, ended: bool) -> None:
        answer = self._answer
        undecided = answer.status is None
        try:
            answer.feed(part, ended=ended)
        except MalformedAnswerError as error:
            self._fail(str(error))
            return
        if undecided and answer.status is not None:
            self._decide(answer.status)
        elif answer.complete:
            self._judge()

    def lost(self, error: OSError) -> None:
        self._connection = None
        if self._answer.status is None:
            self._lane.discard(self)
            self._reply.unreachable(error)
        else:
            self._judge()

    def _found(self, places: Places, problem: str) -> None:
        if not self._reply.open or self._wire.closed:
            return
        if places:
            self._connect(places)
        else:
            self._fail(f"cannot find the host {self._plan.request.host}: {problem}")

    def _connect(self, places: Places) -> None:
        tls_name = self._plan.request.host if self._plan.request.secure else None
        connection = Connection(self._wire, self, places, self._plan.encoded, tls_name)
        if (error := connection.begin()) is None:
            self._connection = connection
        else:
            self._wire.loop.call_soon(self.lost, error)

    def _decide(self, status: int) -> None:
        """The headers are here. The status decides; for the rest we have but little patience."""
        self._latency = self._reply.elapsed()
        if 300 <= status < 400 and self._redirected(status):
            return
        if self._answer.complete:
            self._judge()
        elif self._due - self._wire.loop.time() > PATIENCE:
            self._lane.discard(self)
            self._lane = self._wire.patience
            self._lane.add(self)

    def _redirected(self, status: int) -> bool:
        """Whether the check goes on elsewhere, or has failed in trying to."""
        location = (self._answer.header(LOCATION) or b"").decode("latin-1")
        try:
            request, self._warning = after(self._plan.request, status, location)
        except RequestError as error:
            self._fail(str(error))
            return True
        if request is None:
            return False
        if self._requests == _REQUESTS:
            self._fail(f"the redirects do not end: the {_REQUESTS}th leads to {request.url}")
            return True
        self._hang_up(politely=True)
        self._plan = _planned(request)
        self._answer = Answer()
        self.begin()
        return True

    def _judge(self) -> None:
        status = self._answer.status or 0
        ok = 200 <= status < 400
        self._lane.discard(self)
        self._hang_up(politely=self._answer.complete)
        self._reply.give(
            ok=ok,
            detail=self._answer.text(SHOWN if ok else BODY_LIMIT),
            status=status,
            latency=self._latency,
            warning=self._warning,
        )

    def _fail(self, detail: str) -> None:
        self._lane.discard(self)
        self._hang_up(politely=False)
        self._reply.give(ok=False, detail=harmless(detail), status=self._answer.status)

    def _hang_up(self, *, politely: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if politely:
            connection.leave()
        else:
            connection.close()

    def _late(self) -> str:
        within = f"within {duration(self._timeout)}"
        if self._connection is None:
            return f"the host {self._plan.request.host} was not found {within}"
        if not self._connection.asked:
            return f"no connection {within}"
        if self._answer.begun:
            return f"the headers of the answer did not end {within}"
        return f"no answer {within}"
