"""The configuration and the table, as text and values."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hale.errors import BalancerError
from hale.local.balancers.haproxy_config import Gateway, identity, render
from hale.local.balancers.haproxy_plane import Workers, parse_workers
from hale.local.balancers.haproxy_table import (
    Table,
    arrange,
    changes,
    keys_of,
    map_text,
    parse,
    parse_map,
    server_id,
    server_name,
)
from hale.ports import Route, Server
from hale.settings import Address

GATEWAY = Gateway(Address("127.0.0.1", 8080), threads=2, slots=2)


def server(name: str, *, ready: bool = True, port: int = 9001) -> Server:
    return Server(name, "127.0.0.1", port, ready)


def route(*servers: Server, host: str = "web.localhost", password: str | None = None) -> Route:
    return Route(f"d-{host}", (host,), servers, password)


def slot_text(text: str, slot: str) -> str:
    return text[text.index(f"backend {slot} ") :].partition("\nbackend ")[0]


def test_a_slot_holds_its_servers_with_their_state_for_the_next_start() -> None:
    table = arrange([route(server("r1.1"), server("r2.1", ready=False, port=9002))], Table(), ())
    assert [
        line for line in slot_text(render(GATEWAY, table), "slot-1").splitlines() if "server" in line
    ] == [
        "    server r1.1 127.0.0.1:9001 pool-purge-delay 2s",
        "    server r2.1 127.0.0.1:9002 pool-purge-delay 2s disabled",
    ]


def test_slots_are_in_stock_before_anybody_needs_them() -> None:
    assert re.findall(r"^backend (\S+)", render(GATEWAY, Table()), re.MULTILINE) == [
        "successor",
        "nowhere",
        "slot-1",
        "slot-2",
    ]


def test_the_gateway_listens_on_addresses_of_both_families() -> None:
    gateway = Gateway(Address("::1", 8080), threads=1, slots=1)
    assert "    bind [::1]:8080\n" in render(gateway, Table())
    assert "    bind 127.0.0.1:8080\n" in render(GATEWAY, Table())


def test_a_server_on_ipv6_is_in_brackets() -> None:
    table = arrange([route(Server("r1", "::1", 9001, ready=True))], Table(), ())
    assert "server r1 [::1]:9001 " in render(GATEWAY, table)
    assert "add server slot-1/r1 [::1]:9001 pool-purge-delay 2s" in changes(Table(), table)


def test_the_identity_changes_with_the_gateway_and_not_with_the_table() -> None:
    more = Gateway(GATEWAY.address, GATEWAY.threads, slots=4)
    elsewhere = Gateway(Address("127.0.0.1", 8081), GATEWAY.threads, GATEWAY.slots)
    assert len({identity(GATEWAY), identity(more), identity(elsewhere)}) == 3


def test_no_text_of_ours_has_a_password() -> None:
    table = arrange([route(server("r1"), password="hunter2")], Table(), ())
    texts = [render(GATEWAY, table), map_text(table.keys), *changes(Table(), table)]
    assert not [text for text in texts if "hunter2" in text or "aHVudGVyMg" in text]


@given(st.lists(st.text(min_size=1), unique=True))
def test_every_server_id_has_a_name_of_its_own_that_haproxy_takes(ids: list[str]) -> None:
    names = [server_name(known) for known in ids]
    assert [server_id(name) for name in names] == ids
    assert all(re.fullmatch(r"[A-Za-z0-9_.:-]+", name) for name in names)


def test_a_new_deployment_takes_the_first_free_slot() -> None:
    now = arrange([route(host="a"), route(host="b")], Table(), ())
    then = arrange([route(host="b"), route(host="c")], now, busy=now.used)
    assert then.hosts == {"b": "slot-2", "c": "slot-3"}
    assert arrange([route(host="b"), route(host="c")], now, busy={"slot-2"}).hosts["c"] == "slot-1"


def test_two_deployments_that_swap_hosts_do_not_share_a_slot() -> None:
    now = arrange([route(host="a"), route(host="b")], Table(), ())
    then = arrange([Route("one", ("b", "a")), Route("two", ("c",))], now, busy=now.used)
    assert then.hosts == {"b": "slot-2", "a": "slot-2", "c": "slot-3"}


@pytest.mark.parametrize("host", ["two words", "a;b", "line\nbreak", "", "a\\b", "x" * 256])
def test_a_host_that_would_break_a_command_is_refused(host: str) -> None:
    with pytest.raises(BalancerError, match="cannot route"):
        arrange([route(host=host)], Table(), ())


def test_a_server_that_is_no_address_is_refused() -> None:
    with pytest.raises(BalancerError, match=r"cannot route to r1: 'somewhere' is no IP address"):
        arrange([route(Server("r1", "somewhere", 1, ready=True))], Table(), ())


def test_a_new_deployment_is_complete_before_its_host_leads_there() -> None:
    want = arrange([route(server("r1"), password="pw")], Table(), ())
    digest = next(key for key in keys_of("slot-1", "pw") if "/" in key)
    assert changes(Table(), want) == [
        "add server slot-1/r1 127.0.0.1:9001 pool-purge-delay 2s",
        "set server slot-1/r1 state ready",
        "add map keys.map slot-1 locked",
        f"add map keys.map {digest} right",
        "add map hosts.map web.localhost slot-1",
    ]


def test_a_deployment_is_unknown_before_its_servers_go() -> None:
    have = arrange([route(server("r1"))], Table(), ())
    assert changes(have, Table()) == [
        "del map hosts.map web.localhost",
        "set server slot-1/r1 state maint",
        "del server slot-1/r1",
    ]


def test_a_changed_password_locks_before_it_forgets_the_old_one() -> None:
    have = arrange([route(password="old")], Table(), ())
    want = arrange([route(password="new")], have, ())
    old, new = (next(k for k in keys_of("slot-1", p) if "/" in k) for p in ("old", "new"))
    assert changes(have, want) == [f"add map keys.map {new} right", f"del map keys.map {old}"]


def test_equal_tables_need_no_command() -> None:
    table = arrange([route(server("r1"), server("r2", ready=False), password="pw")], Table(), ())
    assert changes(table, table) == []


def test_a_server_that_moved_is_told_its_address() -> None:
    have = arrange([route(server("r1", port=1))], Table(), ())
    want = arrange([route(server("r1", port=2, ready=False))], have, ())
    assert changes(have, want) == [
        "set server slot-1/r1 addr 127.0.0.1 port 2",
        "set server slot-1/r1 state maint",
    ]


def test_the_table_is_read_from_what_haproxy_answers() -> None:
    states = (
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ...\n"
        "3 successor 1 next - 2 0 1 1 6 1 0 0 0 0 0 0 - 0 - 0 0 - - 0\n"
        "4 slot-1 1 r1.1 127.0.0.1 2 4 1 1 6 1 0 0 8 0 0 0 - 9001 - 0 0 - - 0\n"
        "4 slot-1 2 r:c3:bc.1 ::1 0 5 1 1 6 1 0 0 8 0 0 0 - 9002 - 0 0 - - 0\n"
        "5 slot-2 1 x 127.0.0.1 2 0 1 1 6 1 0 0 8 0 0 0 - 9003 - 0 0 - - 0\n"
        "5 slot-2 2 y 127.0.0.1 0 1 1 1 6 1 0 0 8 0 0 0 - 9004 - 0 0 - - 0\n"
    )
    table = parse(states, "0x40588170 a.localhost slot-1\n0x7fcb5c047580 b slot-2\n", "0x1 slot-1 locked\n")
    assert table == Table(
        hosts={"a.localhost": "slot-1", "b": "slot-2"},
        keys={"slot-1": "locked"},
        slots={
            "slot-1": {
                "r1.1": server("r1.1"),
                "rü.1": Server("rü.1", "::1", 9002, ready=False),
            },
            "slot-2": {"x": server("x", port=9003), "y": server("y", port=9004, ready=False)},
        },
    )


def test_a_map_survives_its_file() -> None:
    entries = {"b.localhost": "slot-2", "a.localhost": "slot-1"}
    assert parse_map(map_text(entries)) == entries


PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
11880           master          3 [failed: 1]   0d00h00m09s     2.8.25-5cf5d0683
# workers
11896           worker          0               0d00h00m00s     2.8.25-5cf5d0683
# old workers
11882           worker          1               0d00h00m09s     2.8.25-5cf5d0683
11883           worker          2               0d00h00m09s     2.8.25-5cf5d0683
# programs

"""


def test_the_masters_account_of_its_workers_is_read() -> None:
    assert parse_workers(PROCESSES) == Workers(11880, 3, 1, 11896, (11882, 11883))


def test_a_master_without_a_worker_has_none() -> None:
    assert parse_workers("11880 master 1 [failed: 1] 0d 2.8\n# workers\n# old workers\n").current is None


def test_an_answer_that_is_none_is_refused() -> None:
    with pytest.raises(BalancerError, match="no sense"):
        parse_workers("Unknown command\n")


def test_the_whole_text_is_as_reviewed() -> None:
    """GOLDEN=rewrite writes the file anew; the difference is what a reviewer reads."""
    table = arrange([route(server("r1.1"), server("r2.1", ready=False, port=9002))], Table(), ())
    golden, text = Path(__file__).with_name("golden.cfg"), render(GATEWAY, table)
    if os.environ.get("GOLDEN") == "rewrite":
        golden.write_text(text)
    assert text == golden.read_text()
