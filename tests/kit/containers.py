"""Deployments of small containers on a whole hale, and a look at what the engine has of them."""

import subprocess
import sys
from collections.abc import Mapping, Sequence

from kit.daemon import Hale, Json, web_spec
from kit.podman import Podman

QUICK = {"backoff": {"initialSeconds": 0.1, "maxSeconds": 0.1}, "drainSeconds": 1, "gracePeriodSeconds": 1}
HASTY: Mapping[str, Mapping[str, object]] = {"readiness": {"failureThreshold": 1}}


def container_spec(
    name: str = "web",
    image: str = "localhost/web:1",
    *,
    replicas: int = 2,
    checks: Mapping[str, Mapping[str, object]] | None = None,
    hale: Mapping[str, object] | None = None,
    **fields: object,
) -> dict[str, Json]:
    """A spec of the web image with three quick checks; `fields` are further keys of the spec."""
    spec = web_spec(name, replicas=replicas, checks=checks, hale={**QUICK, **(hale or {})})
    del spec["command"]
    return spec | {"image": image} | fields


def env(**values: str) -> list[dict[str, str]]:
    """Variables as specs have them."""
    return [{"name": name, "value": value} for name, value in values.items()]


def counting(first: str = "") -> list[str]:
    """A command for the web image that serves, and writes 0, 1, 2 and so on for as long as it does."""
    count = "i=0; while :; do echo n $i; i=$((i+1)); sleep 0.02; done"
    return ["sh", "-c", f"{first} ({count}) & exec /serve"]


def typed(hale: Hale, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `hale <words>` with this on its standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "hale.cli.main", *words],
        env=hale.env | {"HALE_DATA": str(hale.data)},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def container(podman: Podman, replica: Json) -> str:
    """The name of the container of a replica's newest attempt."""
    labels = [f"label=hale.replica={replica['id']}", f"label=hale.attempt={replica['attempt']}"]
    (name,) = podman.containers(*labels)
    return name


def run_in(podman: Podman, replica: Json, *command: str, check: bool = True) -> str:
    """Run a command in its container; what it wrote."""
    return podman.run("exec", container(podman, replica), *command, check=check, stderr=True)


def places(replicas: Sequence[Json]) -> list[tuple[str, str, int]]:
    """What is the same for as long as no replica was restarted or replaced."""
    return sorted((each["id"], each["address"], each["restarts"]) for each in replicas)


def kinds(event: Json) -> list[str]:
    """The links of the chain that led to it."""
    return [link["kind"] for link in event["cause"]]
