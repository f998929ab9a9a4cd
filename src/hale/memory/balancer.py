"""MemoryBalancer: the Balancer of tests, where requests are numbers."""

from collections.abc import Callable, Mapping, Sequence

from hale.core.event import Event
from hale.errors import BalancerError
from hale.ports import Route, Server


class MemoryBalancer:
    """The table in dictionaries; passes the same suite as HaproxyBalancer.

    `begin` and `finish` are the traffic. A test that wants `apply` to fail sets `failure`.
    """

    def __init__(self) -> None:
        self.routes: Sequence[Route] = ()
        self.failure = ""
        self.stopped = False
        self._ready: dict[str, bool] = {}
        self._flights: dict[str, int] = {}
        self._served: dict[str, int] = {}
        self._listeners: list[Callable[[Event], None]] = []

    async def apply(self, routes: Sequence[Route]) -> None:
        if self.failure:
            raise BalancerError(self.failure)
        self.routes = tuple(routes)
        self._ready = {server.id: server.ready for route in routes for server in route.servers}
        leaving = {known: n for known, n in self._flights.items() if n or known in self._ready}
        self._flights = dict.fromkeys(self._ready, 0) | leaving

    def set_ready(self, server_id: str, *, ready: bool) -> None:
        if server_id in self._ready:
            self._ready[server_id] = ready

    async def in_flight(self) -> Mapping[str, int]:
        return dict(self._flights)

    def on_event(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    async def stop(self) -> None:
        self.stopped = True

    # --- what tests do with it ---

    def ready(self, deployment_id: str) -> list[str]:
        """Servers that requests of the deployment can go to now."""
        found = (route for route in self.routes if route.deployment_id == deployment_id)
        return [server.id for route in found for server in route.servers if self._ready[server.id]]

    def begin(self, host: str, *, password: str | None = None) -> tuple[int, str]:
        """A request comes in: its status, and the server that it is under way on (or "")."""
        route = self._route(host)
        if route is None:
            return 404, ""
        if route.password not in (None, password):
            return 401, ""
        server = self._least(route.servers)
        if server is None:
            return 503, ""
        self._flights[server.id] += 1
        self._served[server.id] = self._served.get(server.id, 0) + 1
        return 200, server.id

    def finish(self, server_id: str) -> None:
        self._flights[server_id] -= 1
        if not self._flights[server_id] and server_id not in self._ready:
            del self._flights[server_id]

    def tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _route(self, host: str) -> Route | None:
        name = host.partition(":")[0].rstrip(".").lower()
        return next((r for r in self.routes if name in (h.lower().rstrip(".") for h in r.hosts)), None)

    def _least(self, servers: Sequence[Server]) -> Server | None:
        usable = [server for server in servers if self._ready[server.id]]
        return min(usable, key=lambda s: (self._flights[s.id], self._served.get(s.id, 0)), default=None)
