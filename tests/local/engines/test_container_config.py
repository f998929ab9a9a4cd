"""What a container is made of, for Podman and Docker, with root and without; and what is read from it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from hale.core.deployment import Machine, Template
from hale.core.probe import HttpAction, Probe, ProbeKind
from hale.core.volume import Mount
from hale.local.engines.container_api import Host
from hale.local.engines.container_config import (
    Image,
    body,
    environment,
    exit_code,
    instance,
    instant,
    name,
    notes,
    unable,
)
from hale.ports import Launch

PODMAN = Host(podman=True, cpus=4, memory=8 << 30)
DOCKER = replace(PODMAN, podman=False)
IMAGE = Image({"PATH": "/bin", "HOME": "/root"}, frozenset({8000}))
APP = Template("key", image="web:1", pinned="registry.example/web@sha256:1", ports=(8000, 9000))


def made(template: Template = APP, host: Host = PODMAN, *, init: bool = True) -> dict[str, Any]:
    return body(Launch("r1", 3, "d1", "web", 7, template), IMAGE, host, "me", init=init)


def host_config(template: Template = APP, host: Host = PODMAN, *, init: bool = True) -> dict[str, Any]:
    config: dict[str, Any] = made(template, host, init=init)["HostConfig"]
    return config


# --- create ---


def test_the_pinned_image_is_run_and_its_own_command_unless_there_is_another() -> None:
    assert made()["Image"] == "registry.example/web@sha256:1"
    assert "Entrypoint" not in made()
    own = made(replace(APP, command=("serve", "--port=$PORT", "$HOME", "$NOBODY", "$$PATH")))
    assert (own["Entrypoint"], own["Cmd"]) == (["serve", "--port=8000", "/root", "$NOBODY", "$PATH"], [])


def test_an_image_that_was_not_pulled_is_run_by_its_name() -> None:
    assert made(replace(APP, pinned=None))["Image"] == "web:1"


def test_labels_say_what_it_is_and_whose() -> None:
    labels = made()["Labels"]
    assert {key: labels[f"hale.{key}"] for key in ("server", "deployment", "slug", "revision")} == {
        "server": "me",
        "deployment": "d1",
        "slug": "web",
        "revision": "7",
    }
    assert (labels["hale.replica"], labels["hale.attempt"]) == ("r1", "3")
    assert name(Launch("r1", 3, "d1", "web", 7, APP)) == "hale-web-r1-3"


@pytest.mark.parametrize(
    ("exposed", "ports", "said"),
    [
        ((), (8000,), []),
        ((8000,), (8000, 9000), []),
        ((), (), []),
        (
            (9000, 80),
            (8000, 9000),
            ["ports: 8000 is not among those that the image exposes (80, 9000)"],
        ),
    ],
)
def test_a_first_port_that_an_image_does_not_name_among_others_is_noted(
    exposed: tuple[int, ...], ports: tuple[int, ...], said: list[str]
) -> None:
    launched = Launch("r1", 3, "d1", "web", 7, replace(APP, ports=ports))
    created = body(launched, Image({}, frozenset(exposed)), PODMAN, "me", init=True)
    assert json.loads(created["Labels"]["hale.notes"]) == said


def test_the_specs_variables_win_over_hales() -> None:
    env = (("PORT", "80"), ("HOST", "::"), ("URL", "http://$HOST:$PORT$NOBODY"), ("BIN", "$PATH"))
    assert environment(replace(APP, env=env), IMAGE) == {
        "HOST": "::",
        "PORT": "80",
        "PORT_8000": "8000",
        "PORT_9000": "9000",
        "URL": "http://:::80$NOBODY",
        "BIN": "/bin",
    }


def test_volumes_are_bound_and_named_to_the_replica() -> None:
    mounts = (Mount("my-data.1", "/a", "/opt/a"), Mount("w", "/b", "/opt/b", writable=True))
    template = replace(APP, mounts=mounts)
    assert host_config(template)["Binds"] == ["/a:/opt/a:ro,z", "/b:/opt/b:rw,z"]
    assert environment(template, IMAGE)["HALE_INTEGRATION_MY_DATA_1"] == "/opt/a"


def test_the_engine_does_not_restart_and_its_logs_are_bounded() -> None:
    assert host_config()["RestartPolicy"] == {"Name": "no"}
    assert host_config()["LogConfig"] == {"Type": "k8s-file", "Config": {"max-size": "32m"}}
    assert host_config(host=DOCKER)["LogConfig"]["Config"] == {"max-size": "16m", "max-file": "2"}


def test_docker_is_told_the_names_of_the_host_that_podman_gives_by_itself() -> None:
    assert host_config(host=DOCKER)["ExtraHosts"] == [
        "host.docker.internal:host-gateway",
        "host.containers.internal:host-gateway",
    ]
    assert "ExtraHosts" not in host_config()


def test_an_init_is_asked_for_where_there_is_one() -> None:
    assert host_config(init=True)["Init"] is True
    assert "Init" not in host_config(init=False)


def test_without_root_declared_ports_and_those_of_checks_are_published_on_loopback() -> None:
    probes = {ProbeKind.READINESS: Probe(ProbeKind.READINESS, HttpAction("/", port=9100))}
    template = replace(APP, probes=probes)
    loopback = [{"HostIp": "127.0.0.1", "HostPort": ""}]
    assert host_config(template, replace(PODMAN, rootless=True))["PortBindings"] == {
        "8000/tcp": loopback,
        "9000/tcp": loopback,
        "9100/tcp": loopback,
    }
    assert host_config(template)["PortBindings"] == {}


# --- limits ---


def test_limits_of_a_machine_are_set_where_the_host_has_them() -> None:
    limits = host_config(replace(APP, machine=Machine("C3", cpus=2.5, memory=4 << 30)))
    assert (limits["NanoCpus"], limits["Memory"], limits["MemorySwap"]) == (2_500_000_000, 4 << 30, 4 << 30)
    without_swap = host_config(
        replace(APP, machine=Machine("C3", memory=4 << 30)), replace(PODMAN, swap_limit=False)
    )
    assert "MemorySwap" not in without_swap


@pytest.mark.parametrize(
    ("machine", "host", "said"),
    [
        (Machine(), PODMAN, []),
        (Machine("C3", cpus=4, memory=8 << 30), PODMAN, []),
        (
            Machine("C9", cpus=16),
            PODMAN,
            ["resources.machineType: C9 has 16 CPUs, this machine 4: no limit on CPUs is set"],
        ),
        (
            Machine("C9", memory=30 << 30),
            PODMAN,
            ["resources.machineType: C9 has 30 GiB of memory, this machine 8 GiB: no limit on memory is set"],
        ),
        (
            Machine("C3", cpus=2),
            replace(PODMAN, cpu_limit=False),
            ["resources.machineType: C3 has 2 CPUs, which the container engine can't limit here"],
        ),
        (
            Machine("C3", memory=1 << 30),
            replace(PODMAN, memory_limit=False),
            ["resources.machineType: C3 has 1 GiB of memory, which the container engine can't limit here"],
        ),
        (
            Machine("P4000", gpus=1),
            PODMAN,
            ["resources.machineType: P4000 has 1 GPU, the container engine here has none to give"],
        ),
        (
            Machine("X99"),
            PODMAN,
            ["resources.machineType: X99 is not known, the replicas run without limits"],
        ),
    ],
)
def test_what_a_machine_has_beyond_the_host_is_noted(machine: Machine, host: Host, said: list[str]) -> None:
    template = replace(APP, machine=machine)
    assert list(notes(template, host)) == said
    if said:
        assert not host_config(template, host).keys() & {"NanoCpus", "Memory", "DeviceRequests"}


def test_gpus_are_asked_for_in_the_engines_own_way() -> None:
    template = replace(APP, machine=Machine("P4000x2", gpus=2))
    podman, docker = (replace(host, gpus=True) for host in (PODMAN, DOCKER))
    assert host_config(template, podman)["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}
    ]
    assert host_config(template, docker)["DeviceRequests"] == [{"Count": 2, "Capabilities": [["gpu"]]}]
    assert list(notes(template, podman)) == []


# --- unable ---


def test_what_can_not_be_run_is_said() -> None:
    assert unable(APP) == ""
    assert unable(replace(APP, image=None)).startswith("image: there is nothing to run in a container")
    colon = replace(APP, mounts=(Mount("m", "/data", "/opt/a:b"),))
    assert unable(colon) == "integrations: /opt/a:b can't be mounted; choose a path without a colon"


# --- what is read ---


def inspected(host: Host = PODMAN, **state: object) -> dict[str, Any]:
    return {
        "Id": "c1",
        "Config": {"Labels": made(host=host)["Labels"]},
        "State": {
            "Status": "running",
            "Running": True,
            "StartedAt": "2026-11-28T16:19:40.655246922Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "ExitCode": 0,
            **state,
        },
        "NetworkSettings": {
            "Networks": {"hale": {"IPAddress": "10.89.0.2"}},
            "Ports": {
                "9000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40001"}],
                "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40000"}],
                "9100/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40002"}],
                "53/udp": None,
            },
        },
    }


ENDED = {"Status": "exited", "Running": False, "FinishedAt": "2026-11-28T16:20:00Z"}


def test_a_container_is_dialled_at_its_own_address() -> None:
    found = instance(inspected(), PODMAN)
    assert (found.replica_id, found.attempt, found.running) == ("r1", 3, True)
    assert (found.address, found.ports) == ("10.89.0.2", {8000: 8000, 9000: 9000})
    assert found.started_at == pytest.approx(1795882780.655247)
    assert found.pid is None


def test_without_root_it_is_dialled_where_its_ports_are_published_the_first_one_first() -> None:
    host = replace(PODMAN, rootless=True)
    found = instance(inspected(host), host)
    assert found.address == "127.0.0.1"
    assert list(found.ports.items()) == [(8000, 40000), (9000, 40001), (9100, 40002)]


def test_what_the_engine_forgets_of_one_that_ended_is_kept() -> None:
    before = instance(inspected(), PODMAN)
    after = inspected(**ENDED)
    after["NetworkSettings"] = {"Networks": {"hale": {"IPAddress": ""}}, "Ports": None}
    ended = instance(after, PODMAN, before)
    assert (ended.address, ended.ports, ended.exited_at) == (before.address, before.ports, 1795882800.0)


@pytest.mark.parametrize(("said", "name"), [("/hale-web-r1-3", "hale-web-r1-3"), ("", None)])
def test_it_is_known_by_the_name_that_its_engine_takes(said: str, name: str | None) -> None:
    assert instance({**inspected(), "Name": said}, PODMAN).container == name


@pytest.mark.parametrize(
    ("said", "code"), [(0, 0), (3, 3), (128, 128), (137, -9), (143, -15), (192, -64), (193, 193), (-1, None)]
)
def test_exit_codes(said: int, code: int | None) -> None:
    assert exit_code(said) == code


@pytest.mark.parametrize(
    ("killed", "code", "out_of_memory"), [(True, 137, True), (False, 137, False), (True, 0, False)]
)
def test_memory_is_the_cause_only_of_an_end_by_force(killed: bool, code: int, out_of_memory: bool) -> None:
    ended = instance(inspected(**ENDED, ExitCode=code, OOMKilled=killed), PODMAN)
    assert ended.out_of_memory is out_of_memory


def test_one_that_is_paused_runs() -> None:
    assert instance(inspected(Status="paused", Running=False), PODMAN).running


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T02:00:01.123456789+02:00", pytest.approx(1.123456789)),
    ],
)
def test_instants(text: str, at: float) -> None:
    assert instant(text) == at


def test_an_image_says_what_it_brings_along() -> None:
    config = {"Env": ["PATH=/bin", "A=b=c"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "81": {}}}
    assert Image.read({"Config": {**config, "WorkingDir": "/app"}}) == Image(
        {"PATH": "/bin", "A": "b=c"}, frozenset({80, 81}), "/app"
    )
    ranges = {"70-72/tcp": {}, "53/udp": {}, "80": {}, "web": {}}
    assert Image.read({"Config": {"ExposedPorts": ranges}}).exposed == {70, 71, 72, 80}
    assert Image.read({"Config": None}) == Image({})
