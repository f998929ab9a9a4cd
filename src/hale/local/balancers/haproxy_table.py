"""What HAProxy carries, as a value: which hosts lead to which slot, which servers stand in it.

Pure. A slot is one of the backends that the configuration keeps in stock: HAProxy can't get new ones
while it runs, so a deployment takes a free one and needs no reload. `changes` is the one place that
knows how to come from one table to another.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from hale.errors import BalancerError
from hale.ports import Route, Server

HOSTS, KEYS = "hosts.map", "keys.map"
USER = "paperspace"
IDLE_SECONDS = 2
"""Unused connections to a replica are given back before its own server closes them (uvicorn: 5 s)."""

_HOST = re.compile(r"[a-z0-9._:\[\]-]{1,255}")
_KEY = re.compile(r"([0-9A-F]{64}/)?slot-[1-9]\d*")
_PLAIN = re.compile(rb"[A-Za-z0-9_.-]")
_READY = "ready"


@dataclass(slots=True)
class Table:
    """Hosts to slots, the entries that lock slots, slots to servers by id."""

    hosts: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    slots: dict[str, dict[str, Server]] = field(default_factory=dict)

    def place(self, server_id: str) -> str | None:
        """HAProxy's `slot/server` for the id, if it is in the table."""
        for slot, servers in self.slots.items():
            if server_id in servers:
                return f"{slot}/{server_name(server_id)}"
        return None

    def mark(self, server_id: str, *, ready: bool) -> None:
        for servers in self.slots.values():
            if server_id in servers:
                servers[server_id] = replace(servers[server_id], ready=ready)

    @property
    def used(self) -> set[str]:
        return {*self.hosts.values(), *(slot for slot, servers in self.slots.items() if servers)}


def slot_name(number: int) -> str:
    return f"slot-{number}"


def slot_number(slot: str) -> int:
    return int(slot.removeprefix("slot-"))


def server_name(server_id: str) -> str:
    """A name that HAProxy takes, another one for every id: what it would refuse becomes `:xx`."""
    return "".join(
        chr(byte) if _PLAIN.match(bytes([byte])) else f":{byte:02x}" for byte in server_id.encode()
    )


def server_id(name: str) -> str:
    head, *rest = name.split(":")
    return (head.encode() + b"".join(bytes([int(s[:2], 16)]) + s[2:].encode() for s in rest)).decode()


def keys_of(slot: str, password: str) -> dict[str, str]:
    """Entries that lock a slot, and open it for the credentials of that hash: no file has the password."""
    credentials = b64encode(f"{USER}:{password}".encode())
    return {slot: "locked", f"{hashlib.sha256(credentials).hexdigest().upper()}/{slot}": "right"}


def authority(server: Server) -> str:
    return f"[{server.address}]:{server.port}" if ":" in server.address else f"{server.address}:{server.port}"


def arrange(routes: Sequence[Route], now: Table, busy: Collection[str]) -> Table:
    """The table for the routes. A deployment keeps the slot that its hosts lead to, else takes a free one.

    A slot that still has servers of a former deployment is not free: a request there that is tried
    again must not end up at another deployment's server.
    """
    table = Table()
    taken: set[str] = set()
    places: list[str | None] = []
    for route in routes:
        slot = next((now.hosts[h] for h in _hosts(route) if h in now.hosts), None)
        slot = None if slot in taken else slot
        taken.update({slot} if slot else ())
        places.append(slot)
    free = _free(taken.union(busy))
    for route, kept in zip(routes, places, strict=True):
        slot = kept or next(free)
        table.hosts.update(dict.fromkeys(_hosts(route), slot))
        table.slots[slot] = {server.id: _checked(server) for server in route.servers}
        if route.password is not None:
            table.keys.update(keys_of(slot, route.password))
    return table


def _free(taken: Collection[str]) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        if (slot := slot_name(number)) not in taken:
            yield slot


def _hosts(route: Route) -> list[str]:
    hosts = [host.lower().rstrip(".") for host in route.hosts]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise BalancerError(f"cannot route {host!r}: not a host name")
    return hosts


def _checked(server: Server) -> Server:
    try:
        return replace(server, address=str(ip_address(server.address)))
    except ValueError as error:
        raise BalancerError(f"cannot route to {server.id}: {server.address!r} is no IP address") from error


def parse(servers: str, hosts: str, keys: str) -> Table:
    """The table out of HAProxy's answers to `questions`."""
    table = Table(hosts=parse_map(hosts), keys=parse_map(keys))
    for line in servers.splitlines():
        # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ... (18th) srv_port
        columns = line.split()
        if len(columns) < 19 or not columns[1].startswith("slot-"):
            continue
        slot, name, address, admin, port = (columns[n] for n in (1, 3, 4, 6, 18))
        # 4: it was `disabled` in the configuration; says nothing about now.
        known = Server(server_id(name), address, int(port), ready=not int(admin) & ~4)
        table.slots.setdefault(slot, {})[known.id] = known
    return table


def parse_files(hosts: str, keys: str, *, stock: int) -> Table:
    """The table without servers out of the maps' files, as far as a power cut has left sense in them."""
    slots = {slot_name(n + 1) for n in range(stock)}
    return Table(
        hosts={h: slot for h, slot in parse_map(hosts).items() if slot in slots and _HOST.fullmatch(h)},
        keys={key: word for key, word in parse_map(keys).items() if _KEY.fullmatch(key)},
    )


def questions() -> list[str]:
    return ["show servers state", f"show map {HOSTS}", f"show map {KEYS}"]


def parse_map(text: str) -> dict[str, str]:
    """Lines of `key value`, with HAProxy's entry id before them or not."""
    lines = (line.split() for line in text.splitlines())
    return {columns[-2]: columns[-1] for columns in lines if len(columns) >= 2}


def map_text(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in sorted(entries.items()))


def changes(have: Table, want: Table) -> list[str]:
    """Commands from one table to the other, in an order that never sends a request wrong.

    Servers come before the hosts that lead to them, protection before, too; on the way out the other
    way round.
    """
    return [
        *_arrivals(have, want),
        *_map_changes(KEYS, have.keys, {**have.keys, **want.keys}),
        *_map_changes(HOSTS, have.hosts, want.hosts),
        *_map_changes(KEYS, {**have.keys, **want.keys}, want.keys),
        *departures(have, want),
    ]


def _arrivals(have: Table, want: Table) -> Iterator[str]:
    for slot, servers in want.slots.items():
        known = have.slots.get(slot, {})
        for server in servers.values():
            place = f"{slot}/{server_name(server.id)}"
            there = known.get(server.id)
            if there is None:
                yield f"add server {place} {authority(server)} pool-purge-delay {IDLE_SECONDS}s"
            elif (there.address, there.port) != (server.address, server.port):
                yield f"set server {place} addr {server.address} port {server.port}"
            if server.ready != (there is not None and there.ready):
                yield state_command(place, ready=server.ready)


def departures(have: Table, want: Table) -> Iterator[str]:
    for slot, servers in have.slots.items():
        for server in servers.values():
            if server.id not in want.slots.get(slot, {}):
                place = f"{slot}/{server_name(server.id)}"
                yield state_command(place, ready=False)
                yield f"del server {place}"


def state_command(place: str, *, ready: bool) -> str:
    """Maintenance rather than drain: requests under way finish in both, but only that can be deleted."""
    return f"set server {place} state {_READY if ready else 'maint'}"


def _map_changes(name: str, have: Mapping[str, str], want: Mapping[str, str]) -> Iterator[str]:
    for key, value in want.items():
        if key not in have:
            yield f"add map {name} {key} {value}"
        elif have[key] != value:
            yield f"set map {name} {key} {value}"
    for key in have.keys() - want.keys():
        yield f"del map {name} {key}"
