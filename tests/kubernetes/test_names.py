"""Names: valid for every deployment, different for any two, and the same every time."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hale.kubernetes.names import Known, Names, label, registry_secret
from hale.spec import naming
from tests.kubernetes.cluster import given as rendered
from tests.kubernetes.cluster import kinds, of_kind, pod

ID = "3b093c22-ebe8-4316-a9ff-90cac17ef6cf"

text = st.text(min_size=1, max_size=60) | st.from_regex(r"\A[a-zA-Z0-9/ -]{1,60}\Z")
alike = st.text("aA-/.1", min_size=1, max_size=4)


def names(name: str, **known: object) -> Names:
    return Names.of(name, "{}", Known(**known), "default")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("web", "web"),
        ("my-app-2", "my-app-2"),
        ("a" * 40, "a" * 40),
        ("Web", "web-665aea3ced"),
        ("team/web", "team-web-cbe1d18616"),
        ("team-web", "team-web"),
        ("3d", "x-3d-196fded5fc"),
        ("模型", "x-502fa1c393"),
        ("a" * 41, "a" * 29 + "-e223bfa25f"),
        ("a--b", "a-b-0c9595e764"),
        ("web-665aea3ced", "web-665aea3ced-d72f2dd2a4"),
    ],
)
def test_a_name_that_is_a_label_stays_and_others_can_be_recognized(name: str, made: str) -> None:
    assert label(name) == made


@given(text | alike)
def test_any_text_becomes_a_label_of_forty_characters_at_most(name: str) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", label(name))
    assert len(label(name)) <= 40


@given(alike | text, alike | text)
def test_no_two_deployments_share_a_name(one: str, other: str) -> None:
    assume(one != other)
    assert label(one) != label(other)
    assert label(one) != label(label(other)) or label(other) == other


def everything(name: str) -> set[tuple[str, str]]:
    """What a deployment with all there is calls its objects, and the Secrets beside them."""
    found = rendered(
        {
            "name": name,
            "basicAuthKey": "secret:PASSWORD",
            "env": [{"name": "KEY", "value": "secret:KEY"}],
            "containerRegistry": "secrets",
            "integrations": [
                {"type": "volume", "name": "b"},
                {"type": "git-lfs", "name": "c-b", "url": "https://example.org/x"},
            ],
            "resources": {"machineType": "C4", "ports": [80], "replicas": 2},
        },
        {"route": {"controller": "traefik"}},
    )
    made = {(each["kind"], each["metadata"]["name"]) for each in found.objects}
    return made | {("Secret", each.name) for each in found.secrets if not each.name.startswith("registry.")}


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "a-secrets"), ("a", "a-b"), ("a/b", "a-b"), ("A", "a"), ("a-c", "a"), ("a", "a-basic-auth")],
)
def test_two_deployments_share_no_object(one: str, other: str) -> None:
    assert everything(one) & everything(other) == set()


def test_a_registry_has_a_secret_that_no_deployment_can_have() -> None:
    assert registry_secret("hub") == "registry.hub"
    assert "." not in label("registry.hub")


@given(text)
def test_hosts_are_those_of_one_machine(name: str) -> None:
    assert names(name).hosts("example.org") == [f"{naming.slug(name, ())}.example.org"]


def test_a_server_knows_the_slug_the_id_and_the_number_of_the_revision() -> None:
    known = names("a/b", id=ID, slug="a-b-1a2b3c4d", revision=7)
    assert (known.base, known.revision) == ("a-b-1a2b3c4d", "7")
    assert known.hosts("example.org") == [
        "a-b-1a2b3c4d.example.org",
        "d3b093c22ebe84316a9ff90cac17ef6cf.example.org",
    ]
    labels = known.metadata("x")["labels"]
    assert (labels["hale/deployment-id"], labels["hale/revision"]) == (ID, "7")


def test_every_object_says_whose_it_is() -> None:
    found = rendered({"name": "Team/Web", "resources": {"machineType": "C4", "ports": [80], "replicas": 2}})
    assert kinds(found) == ["Service", "Deployment", "PodDisruptionBudget", "Ingress"]
    for each in found.objects:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "hale"
        assert labels["hale/deployment"] == label("Team/Web")
        assert len(labels["hale/revision"]) == 10
        assert each["metadata"]["annotations"]["hale/name"] == "Team/Web"
        assert each["metadata"]["namespace"] == "default"


def test_another_scale_is_another_revision_with_the_same_pods() -> None:
    one, two = (
        rendered({"resources": {"machineType": "C4", "ports": [80], "replicas": count}}) for count in (1, 2)
    )
    revisions = [of_kind(each, "Deployment")["metadata"]["labels"]["hale/revision"] for each in (one, two)]
    assert revisions[0] != revisions[1]
    templates = [of_kind(each, "Deployment")["spec"]["template"] for each in (one, two)]
    assert templates[0] == templates[1]


def test_pods_that_fill_volumes_get_no_requests() -> None:
    found = rendered({"integrations": [{"type": "git-lfs", "name": "a", "url": "https://example.org/x"}]})
    selector = of_kind(found, "Service")["spec"]["selector"]
    filling = of_kind(found, "Job")["spec"]["template"]["metadata"]["labels"]
    replicas = of_kind(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= replicas.items()
    assert not selector.items() <= filling.items()
    assert pod(found)["volumes"]
