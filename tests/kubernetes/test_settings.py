"""What an operator may say of a cluster, and what is wrong with the rest."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from hale.core.deployment import Machine as SizedMachine
from hale.errors import RefusedError
from hale.kubernetes.settings import Gateway, Images, Machine, Prometheus, Route, Settings, Volumes, read
from hale.machines import GRADIENT

FILE = "cluster.yaml"


def problems(text: str) -> list[str]:
    with pytest.raises(RefusedError) as error:
        read(text.encode(), FILE)
    said = error.value.message.removeprefix("cannot use the settings of the cluster: ")
    return [line.strip().removeprefix(f"{FILE}:") for line in said.splitlines() if line]


def test_everything_has_a_default() -> None:
    assert read(b"", FILE) == read(b"{}", FILE) == Settings()
    assert (Settings().namespace, Settings().domain, Settings().route.kind) == (
        "default",
        "localhost",
        "ingress",
    )


def test_yaml_and_json_are_read() -> None:
    text = b'{"domain": "example.org", "machines": {"C5": {"cpus": 2, "memory": "1Gi"}}}'
    assert read(text, "cluster.json") == read(b"\xef\xbb\xbf" + text, FILE)
    assert read(text, FILE).machine("C5") == Machine(cpus=2, memory="1Gi")


QUANTITY = "must be a quantity of Kubernetes, like 512Mi or 8Gi, not"
DOMAIN = "must be a domain of small letters, digits and -, not"
LABEL = "must be a name of small letters, digits and -, at most 63 characters, not"
RESOURCE = "must be a name like nvidia.com/gpu, at most 63 characters, not"
PAIR = "kind: gateway and a gateway to attach to belong together: write both, or neither"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "1:1: must be a mapping, not a list"),
        ("domian: x", "1:1: domian: unknown key"),
        ("domain: a\ndomain: b", "2:1: domain: is there twice, first at 1:1; keep one"),
        ("domain: Example.org", f'1:1: domain: {DOMAIN} "Example.org"'),
        ("namespace: a.b", f'1:1: namespace: {LABEL} "a.b"'),
        ("namespace:", "1:1: namespace: must not be empty (null)"),
        ("route: {kind: gateway}", f"1:1: route: {PAIR}"),
        ("route: {gateway: {name: a}}", f"1:1: route: {PAIR}"),
        ("route: {kind: x}", "1:9: route.kind: input should be 'ingress', 'gateway' or 'none', not \"x\""),
        (
            "route: {controller: envoy-gateway}",
            "1:1: route: envoy-gateway serves kind: gateway, not ingress",
        ),
        (
            "route: {kind: none, tlsSecret: x}",
            "1:1: route: ingressClass and tlsSecret belong to kind: ingress",
        ),
        ("machines:\n  A:\n    memory: 8 GiB", f'3:5: machines.A.memory: {QUANTITY} "8 GiB"'),
        ("machines:\n  A:\n    memory: 0Gi", f'3:5: machines.A.memory: {QUANTITY} "0Gi"'),
        ("machines: {A: {gpuResource: gpu}}", f'1:16: machines.A.gpuResource: {RESOURCE} "gpu"'),
        ("prometheus: {}", "1:1: prometheus.address: is missing"),
        (
            "preStopSeconds: -1",
            "1:1: preStopSeconds: input should be greater than or equal to 0, not -1",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    assert problems(text) == [said]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(problems("domain: X\nnamespace: Y\nvolumes: {size: lots}")) == 3


def test_what_is_no_yaml_is_refused() -> None:
    (said,) = problems("domain: [")
    assert said.startswith("1:10: not YAML")


def test_a_file_that_is_no_text_or_no_file_of_settings_is_refused() -> None:
    with pytest.raises(RefusedError, match="not UTF-8: byte 0xff"):
        read(b"\xff", FILE)
    with pytest.raises(RefusedError, match="larger than 1024 KiB"):
        read(b"#" * (1 << 20) + b"\n", FILE)


def test_options_go_before_the_file() -> None:
    settings = read(b"{namespace: a, domain: b.c, nativeSleep: false}", FILE)
    assert settings.changed() == settings
    assert settings.changed(namespace="x", domain="y").model_dump() == {
        **settings.model_dump(), "namespace": "x", "domain": "y",
    }  # fmt: skip
    with pytest.raises(RefusedError, match="namespace: must be a name"):
        settings.changed(namespace="Not One")


def test_the_sizes_of_gradient_are_known() -> None:
    for name in GRADIENT:
        machine = Settings().machine(name)
        assert machine is not None
        assert (machine.gpus > 0) == (GRADIENT[name].gpus > 0)
    assert Settings().machine("A4000") == Machine(cpus=8, memory="45Gi", gpus=1)
    assert Settings().machine("C1") == Machine(cpus=1, memory="512Mi")
    assert Settings().machine("unheard-of") is None
    assert Machine.of(SizedMachine("half", cpus=0.5)) == Machine(cpus=0.5)


PAGE = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()


def test_the_settings_that_the_page_shows_are_read() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert read(shown.encode(), FILE).machine("A4000") == Machine(
        cpus=7, memory="40Gi", gpus=1, nodeSelector={"accelerator": "a4000"}
    )


@pytest.mark.parametrize("model", [Settings, Route, Gateway, Machine, Prometheus, Volumes, Images])
def test_every_setting_is_on_the_page(model: type[BaseModel]) -> None:
    table = PAGE.partition("| key | default |")[2].partition("## ")[0]
    told = {word for quoted in re.findall(r"`([^`]+)`", table) for word in re.findall(r"\w+", quoted)}
    assert {field.alias or name for name, field in model.model_fields.items()} - told == set()
