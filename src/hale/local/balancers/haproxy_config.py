"""HAProxy's configuration as text. Pure: the same gateway and table give the same text."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from string import Template

from hale.local.balancers.haproxy_table import (
    HOSTS,
    IDLE_SECONDS,
    KEYS,
    Table,
    authority,
    server_name,
    slot_name,
)
from hale.settings import Address

RUNTIME, HANDOVER = "runtime.sock", "handover.sock"
"""Sockets in HAProxy's folder, which is its working directory: a path of 108 bytes would not reach far."""

NO_HOST = '{"code":"NOT_FOUND","message":"no deployment has this host name"}'
NOT_READY = '{"code":"SERVICE_UNAVAILABLE","message":"no replica is ready"}'
UNAUTHORIZED = (
    '{"code":"UNAUTHORIZED","message":"user paperspace and the password of the deployment, please"}'
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where to listen, on how many threads, with how many slots in stock."""

    address: Address
    threads: int
    slots: int


def identity(gateway: Gateway) -> str:
    """The first line of the configuration: another one means that a reload is due."""
    return f"# hale {hashlib.sha256(render(gateway, Table()).encode()).hexdigest()[:32]}\n"


def render(gateway: Gateway, table: Table) -> str:
    slots = "\n".join(_slot(slot_name(n + 1), table) for n in range(gateway.slots))
    fixed = _FIXED.substitute(
        bind=gateway.address,
        threads=gateway.threads,
        runtime=RUNTIME,
        handover=HANDOVER,
        hosts=HOSTS,
        no_host=NO_HOST,
        not_ready=NOT_READY,
    )
    return fixed + slots


def _slot(slot: str, table: Table) -> str:
    return "".join([f"backend {slot} from slots\n", _LOCK.replace("$slot", slot), *_servers(slot, table)])


def _servers(slot: str, table: Table) -> Iterator[str]:
    for server in table.slots.get(slot, {}).values():
        state = "" if server.ready else " disabled"
        yield (
            f"    server {server_name(server.id)} {authority(server)}"
            f" pool-purge-delay {IDLE_SECONDS}s{state}\n"
        )


# Open for all unless the slot is in the map, and then for those whose credentials are there, too. The
# quickest that HAProxy has to say it: one look into the map where nobody asked for a password.
_LOCK = f"""\
    acl locked be_name,map_str({KEYS}) -m found
    acl basic req.fhdr(authorization),word(1,' ') -m str -i basic
    acl right req.fhdr(authorization),word(2,' '),sha2(256),hex,concat(/$slot),map_str({KEYS}) -m found
    http-request return status 401 content-type application/json string '{UNAUTHORIZED}' \
hdr WWW-Authenticate 'Basic realm="hale", charset="UTF-8"' unless !locked || basic right
"""

# On the choices:
# - `noreuseport`: a second process on the port is an error, not a silent partner.
# - `idle-close-on-response` with the backend `successor`: a worker that a reload has replaced can't be
#   told of changes any more (HAProxy refuses), but its clients may send one more request over the
#   connections they have. It hands that one to the new worker, and then closes.
# - `retry-on` and `disable-l7-retry`: a connection that can't be made is tried elsewhere for every
#   method; a request that was sent, only if it may be repeated (RFC 9110, 9.2.2).
# - `fd-hard-limit`: some systems allow a thousand million files, and HAProxy has a table as long.
# - `nice` and `low-latency`: a verdict goes before traffic.
_FIXED = Template("""\
global
    stats socket unix@$runtime mode 600 level admin expose-fd listeners nice -1024
    stats timeout 24d
    nbthread $threads
    fd-hard-limit 65536
    noreuseport
    hard-stop-after 24h
    tune.sched.low-latency on

defaults common
    mode http
    timeout connect 3s
    timeout client 1h
    timeout server 1h
    timeout tunnel 24h
    timeout client-fin 30s
    timeout http-request 30s
    timeout http-keep-alive 60s
    option http-no-delay
    option http-ignore-probes
    option idle-close-on-response
    http-error status 503 content-type application/json string '$not_ready' hdr Retry-After 1

defaults slots from common
    balance leastconn
    http-reuse safe
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
    option forwardfor if-none
    http-request disable-l7-retry unless { method GET HEAD OPTIONS TRACE PUT DELETE }
    http-request add-header X-Forwarded-For %[src] if { req.fhdr_cnt(x-forwarded-for) gt 1 }
    http-request set-header X-Forwarded-For %[req.fhdr(x-forwarded-for)],\\ %[src] \
if { req.fhdr_cnt(x-forwarded-for) eq 1 }
    http-request set-header X-Forwarded-Proto http

frontend gateway from common
    bind $bind
    bind unix@$handover mode 600 accept-proxy
    unique-id-format %[uuid()]
    acl kept var(txn.request_id) -m len gt 0
    http-request set-var(txn.request_id) req.fhdr(x-request-id)
    http-request set-header X-Request-ID %[unique-id] unless kept
    http-after-response set-header X-Request-ID %[unique-id] unless kept
    http-after-response set-header X-Request-ID %[var(txn.request_id)] if kept
    use_backend successor if { stopping }
    use_backend %[req.fhdr(host),host_only,rtrim(.),lower,map_str($hosts)]
    default_backend nowhere

backend successor from common
    retries 3
    server next unix@$handover send-proxy-v2

backend nowhere from common
    http-request return status 404 content-type application/json string '$no_host'

""")
