"""The Deployment: image, machine, checks, how replicas end and how a revision takes over."""

from typing import Any

import pytest

from hale.spec.problems import SpecError
from tests.kubernetes.cluster import container, kinds, of_kind, pod, said
from tests.kubernetes.cluster import given as rendered


def refused(config: dict[str, Any], settings: dict[str, Any] | None = None) -> dict[str, str]:
    """Why it is, by field."""
    with pytest.raises(SpecError) as error:
        rendered(config, settings)
    return {problem.path: f"{problem.message}; {problem.hint}" for problem in error.value.problems}


def resources(**more: Any) -> dict[str, Any]:
    return {"resources": {"machineType": "C4", "ports": [8000], **more}}


# --- image ----------------------------------------------------------------------------------


def test_a_spec_without_an_image_is_refused() -> None:
    why = refused({"image": "", "command": ["python", "app.py"]})
    assert why == {"image": "is missing: a cluster runs images; build one, push it and name it here"}


def test_an_image_is_no_sentence() -> None:
    assert list(refused({"image": "web 1"})) == ["image"]


def test_everything_that_is_refused_is_said_at_once() -> None:
    why = refused(
        {
            "image": "",
            "command": ["x"],
            "env": [{"name": "9", "value": "secret:not a name"}],
            "integrations": [{"type": "model", "id": "m", "name": "m"}],
        }
    )
    assert list(why) == ["image", "integrations[0]", "env[0].value"]


@pytest.mark.parametrize(
    ("image", "pull", "policy"),
    [
        ("web@sha256:00", None, "IfNotPresent"),
        ("web:1", None, "Always"),
        ("localhost/web:1", None, "IfNotPresent"),
        ("web:1", "revision", "Always"),
        ("web@sha256:00", "always", "Always"),
        ("web:1", "never", "Never"),
    ],
)
def test_when_an_image_is_pulled(image: str, pull: str | None, policy: str) -> None:
    found = rendered({"image": image, **({"hale": {"pull": pull}} if pull else {})})
    assert container(found)["imagePullPolicy"] == policy
    assert ("image" in said(found)) == (image == "web:1" and pull in (None, "revision"))


def test_a_revision_that_knows_what_its_tag_stood_for_runs_that() -> None:
    found = rendered({"image": "web:1"}, image="web@sha256:11")
    assert (container(found)["image"], container(found)["imagePullPolicy"]) == (
        "web@sha256:11",
        "IfNotPresent",
    )


def test_a_registry_is_a_secret_for_pulling() -> None:
    found = rendered({"containerRegistry": "hub"})
    assert pod(found)["imagePullSecrets"] == [{"name": "registry.hub"}]
    assert [(each.name, each.type) for each in found.secrets] == [
        ("registry.hub", "kubernetes.io/dockerconfigjson")
    ]


def test_a_secret_that_was_set_anew_is_another_pod() -> None:
    config = {"env": [{"name": "A", "value": "secret:S"}]}
    pods = [
        of_kind(rendered(config, secrets=known), "Deployment")["spec"]["template"]["metadata"]
        for known in (None, {"S": 1.0, "T": 1.0}, {"S": 1.0, "T": 2.0}, {"S": 2.0, "T": 1.0})
    ]
    assert "annotations" not in pods[0]
    assert pods[1] == pods[2] != pods[3]


# --- machine --------------------------------------------------------------------------------

MACHINES = {
    "machines": {
        "big": {"cpus": 7.5, "memory": "40Gi", "gpus": 2, "nodeSelector": {"pool": "gpu"}},
        "amd": {"gpus": 1, "gpuResource": "amd.com/gpu"},
        "tiny": {"cpus": 0.0501, "memory": "64Mi"},
        "free": {},
        "C4": {"cpus": 1, "memory": "2Gi"},
    }
}


@pytest.mark.parametrize(
    ("machine", "sizes"),
    [
        ("big", {"cpu": "7.5", "memory": "40Gi", "nvidia.com/gpu": "2"}),
        ("amd", {"amd.com/gpu": "1"}),
        ("tiny", {"cpu": "51m", "memory": "64Mi"}),
        ("C4", {"cpu": "1", "memory": "2Gi"}),
        ("C1", {"cpu": "1", "memory": "512Mi"}),
        ("H100x8", {"cpu": "128", "memory": "2048Gi", "nvidia.com/gpu": "8"}),
    ],
)
def test_a_machine_type_is_kept_for_a_replica_and_all_it_gets(machine: str, sizes: dict[str, str]) -> None:
    found = rendered(resources(machineType=machine), MACHINES)
    assert container(found)["resources"] == {"requests": sizes, "limits": sizes}


@pytest.mark.parametrize(("machine", "noted"), [("free", False), ("unheard-of", True)])
def test_a_machine_type_without_sizes_has_no_limits(machine: str, noted: bool) -> None:
    found = rendered(resources(machineType=machine), MACHINES)
    assert "resources" not in container(found)
    assert ("resources.machineType" in said(found)) == noted


def test_a_machine_type_may_be_certain_nodes() -> None:
    assert pod(rendered(resources(machineType="big"), MACHINES))["nodeSelector"] == {"pool": "gpu"}
    assert "nodeSelector" not in pod(rendered(resources(machineType="C5"), MACHINES))


# --- safety ---------------------------------------------------------------------------------


def test_a_replica_can_not_gain_privileges_and_has_no_token() -> None:
    found = rendered({"integrations": [{"type": "git-lfs", "name": "a", "url": "https://example.org/x"}]})
    pods = [pod(found), of_kind(found, "Job")["spec"]["template"]["spec"]]
    for each in pods:
        assert each["automountServiceAccountToken"] is False
        assert each["enableServiceLinks"] is False
        for inner in [*each.get("initContainers", ()), *each["containers"]]:
            assert inner["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "seccompProfile": {"type": "RuntimeDefault"},
            }


# --- replicas and rollouts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count", "budget"),
    [
        (resources(), 1, False),
        (resources(replicas=3), 3, True),
        (resources(replicas=0), 0, False),
        (resources(replicas=3) | {"enabled": False}, 0, False),
    ],
)
def test_how_many_replicas(config: dict[str, Any], count: int, budget: bool) -> None:
    found = rendered(config)
    assert of_kind(found, "Deployment")["spec"]["replicas"] == count
    assert ("PodDisruptionBudget" in kinds(found)) == budget


def rolling(strategy: dict[str, Any], replicas: int) -> tuple[object, object, list[str]]:
    found = rendered(resources(replicas=replicas) | {"hale": {"strategy": strategy}})
    update = of_kind(found, "Deployment")["spec"]["strategy"]["rollingUpdate"]
    return update["maxSurge"], update["maxUnavailable"], [path.rpartition(".")[2] for path in said(found)]


@pytest.mark.parametrize(
    ("strategy", "replicas", "made"),
    [
        pytest.param({}, 4, ("25%", "25%", []), id="the default is Kubernetes' own"),
        pytest.param({"maxSurge": 2, "maxUnavailable": "10%"}, 4, (2, "10%", []), id="as it is written"),
        pytest.param({"maxUnavailable": "100%"}, 3, ("25%", 2, ["maxUnavailable"]), id="one always stays"),
        pytest.param({"maxUnavailable": 5}, 3, ("25%", 2, ["maxUnavailable"]), id="however it is written"),
        pytest.param({"maxUnavailable": 1}, 1, ("25%", 0, ["maxUnavailable"]), id="also the only one"),
        pytest.param({"maxSurge": 0}, 3, (1, "25%", ["maxSurge"]), id="25% of 3 is none: one more"),
        pytest.param({"maxSurge": "0%"}, 4, ("0%", "25%", []), id="25% of 4 is one"),
        pytest.param(
            {"maxSurge": 0, "maxUnavailable": 1}, 1, (1, 0, ["maxUnavailable", "maxSurge"]), id="neither"
        ),
        pytest.param({"maxSurge": 0}, 0, (0, "25%", []), id="nothing moves without replicas"),
    ],
)
def test_a_rollout_can_always_move_and_never_takes_the_last(
    strategy: dict[str, Any], replicas: int, made: tuple[object, object, list[str]]
) -> None:
    surge, unavailable, noted = rolling(strategy, replicas)
    assert (surge, unavailable, sorted(noted)) == (made[0], made[1], sorted(made[2]))


def test_the_deadline_and_the_history() -> None:
    strategy = {"hale": {"strategy": {"progressDeadlineSeconds": 90.2}}}
    spec = of_kind(rendered(strategy, {"revisionHistoryLimit": 3}), "Deployment")["spec"]
    assert (spec["progressDeadlineSeconds"], spec["revisionHistoryLimit"]) == (91, 3)


# --- the end of a replica -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "settings", "sleep", "whole", "killed"),
    [
        pytest.param({}, {}, 5, 60, 35, id="by default"),
        pytest.param({"drainSeconds": 3}, {}, 3, 33, 33, id="not longer than the drain"),
        pytest.param({"drainSeconds": 0}, {}, None, 30, 30, id="no drain, no sleep"),
        pytest.param({"drainSeconds": 0, "gracePeriodSeconds": 0}, {}, None, 0, 1, id="at once"),
        pytest.param(
            {"drainSeconds": 0.4, "gracePeriodSeconds": 0.4}, {}, 1, 1, 2, id="rounded up, the sum too"
        ),
        pytest.param({"drainSeconds": 90}, {"preStopSeconds": 20}, 20, 120, 50, id="a slow cluster"),
        pytest.param({}, {"preStopSeconds": 0}, None, 60, 30, id="a cluster that needs none"),
    ],
)
def test_how_a_replica_ends(
    own: dict[str, Any], settings: dict[str, Any], sleep: int | None, whole: int, killed: int
) -> None:
    found = rendered({"hale": own, "healthChecks": {"liveness": {"path": "/"}}}, settings)
    pause = container(found).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
    probe = container(found)["livenessProbe"]
    made = (pause, pod(found)["terminationGracePeriodSeconds"], probe["terminationGracePeriodSeconds"])
    assert made == (sleep, whole, killed)


def test_a_cluster_without_the_sleep_action_runs_a_program() -> None:
    found = rendered({}, {"nativeSleep": False})
    assert container(found)["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
    assert "needs a program sleep" in said(found)["image"]


# --- what a cluster has nothing for ---------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"region": "ny2"}, "region"),
        ({"hale": {"workdir": "/srv"}}, "hale.workdir"),
        ({"hale": {"eager": True}}, "hale.eager"),
        ({"hale": {"backoff": {"maxSeconds": 60}}}, "hale.backoff"),
        ({"hale": {"drainSeconds": 60}}, "hale.drainSeconds"),
        ({"hale": {"gracePeriodSeconds": 1}}, "hale.gracePeriodSeconds"),
    ],
)
def test_what_has_no_effect_is_noted(config: dict[str, Any], field: str) -> None:
    assert list(said(rendered(config))) == [field]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hale": {"eager": False}},
        {"hale": {"backoff": {"initialSeconds": 10, "maxSeconds": 300, "resetAfterSeconds": 600}}},
        {"hale": {"drainSeconds": 5, "gracePeriodSeconds": 2}},
    ],
)
def test_what_a_cluster_does_anyway_is_not(config: dict[str, Any]) -> None:
    assert said(rendered(config)) == {}
