"""Everything that is printed is what the API servers of all versions take."""

import re
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes_validate.utils import latest_version, major_minor, validate

from hale.kubernetes.manifests import render
from hale.kubernetes.settings import Settings
from hale.spec import load
from hale.spec.problems import SpecError
from tests.kubernetes.cluster import VERSIONS, kinds, wrong
from tests.kubernetes.cluster import given as rendered_of
from tests.spec.test_files import FILES, NAMED, VALID
from tests.spec.test_properties import checks, hale, line, optional, port, word

CLUSTERS: dict[str, dict[str, Any]] = {
    "ingress": {
        "route": {
            "kind": "ingress",
            "controller": "ingress-nginx",
            "ingressClass": "nginx",
            "tlsSecret": "tls",
        },
        "volumes": {"storageClass": "nfs", "size": "100Gi"},
    },
    "traefik": {"route": {"controller": "traefik"}, "nativeSleep": False},
    "traefik-gateway": {
        "route": {"kind": "gateway", "controller": "traefik", "gateway": {"name": "main"}},
        "prometheus": {"address": "http://prometheus:9090", "query": 'avg(took{s="$namespace/$name:$port"})'},
    },
    "envoy": {
        "route": {
            "kind": "gateway",
            "controller": "envoy-gateway",
            "gateway": {"name": "main", "namespace": "gateways", "sectionName": "https"},
        },
    },
}
_SAME = {
    "domain": "apps.example.org",
    "namespace": "some-team",
    "prometheus": {"address": "http://prometheus.monitoring:9090"},
    "machines": {"small": {"cpus": 0.25, "memory": "512Mi", "nodeSelector": {"example.org/pool": "small"}}},
}


def cluster(name: str) -> Settings:
    return Settings.model_validate({**_SAME, **CLUSTERS[name]})


# --- real specs -----------------------------------------------------------------------------

RENDERED = [*VALID, *(name for name, refused in NAMED.items() if not refused)]


def read(name: str) -> Any:
    return load.load_file(FILES / name, name="given" if name in NAMED else None)


def test_the_versions_are_those_of_the_promise() -> None:
    assert VERSIONS[0].startswith("1.30.")
    assert VERSIONS[-1] == latest_version()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", RENDERED)
def test_a_spec_found_in_public_becomes_what_a_cluster_takes(name: str, version: str) -> None:
    for each in CLUSTERS:
        rendered = render(read(name), cluster(each))
        assert "Deployment" in kinds(rendered)
        assert wrong(rendered.objects, version) == []


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_the_validator_itself_agrees(version: str) -> None:
    rendered = render(read(RENDERED[1]), cluster("ingress"))
    known = [each for each in rendered.objects if each["kind"] != "ScaledObject"]
    validated = {validate(each, version, strict=True) for each in known}
    assert validated == {major_minor(version)}


def test_the_checks_of_this_suite_find_what_is_wrong() -> None:
    rendered = rendered_of({"healthChecks": {"liveness": {"path": "/"}}})
    container = rendered.objects[1]["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"]["periodSecond"] = 1
    container["livenessProbe"]["terminationGracePeriodSeconds"] = 0
    container["env"].append({"name": "9", "value": "x"})
    rendered.objects[1]["metadata"]["name"] = "Web"
    assert len(wrong(rendered.objects, VERSIONS[-1])) == 4


# --- made-up specs --------------------------------------------------------------------------

name = st.text(min_size=1, max_size=60).filter(str.isprintable) | st.from_regex(r"\A[a-z0-9-]{1,50}\Z")
secret = st.from_regex(r"\A[a-zA-Z][a-zA-Z0-9_]{0,20}\Z").map(lambda text: f"secret:{text}")
value = secret | line | st.text(string.ascii_letters + "${}()_ ", min_size=1, max_size=30)
variable = st.fixed_dictionaries({"name": st.sampled_from("ABCD") | word, "value": value})
metric = st.fixed_dictionaries(
    {
        "metric": st.sampled_from(["cpu", "memory"]),
        "summary": st.just("average"),
        "value": st.integers(1, 100),
    }
) | st.fixed_dictionaries(
    {"metric": st.just("requestDuration"), "summary": st.just("average"), "value": st.floats(0.02, 100)}
)
autoscaling = optional(
    {"maxReplicas": st.integers(1, 25), "metrics": st.lists(metric, max_size=4)}, enabled=st.booleans()
)
resources = optional(
    {
        "machineType": st.sampled_from(["C4", "A100x8", "small", "unheard-of"]),
        "ports": st.lists(port, min_size=1, max_size=4, unique=True),
    },
    replicas=st.integers(0, 9),
    autoscaling=autoscaling,
)
mount = st.from_regex(r"\A/[a-z$]{1,5}(/[a-z ]{1,5}){0,2}\Z")
integration = (
    optional({"type": st.just("volume"), "name": word | line})
    | optional(
        {"type": st.just("git-lfs"), "name": word, "url": word.map("https://u:p@example.org/{}".format)},
        path=mount,
    )
    | optional({"type": st.just("s3"), "name": word, "url": word.map("s3://{}/a/b".format)}, path=mount)
    | st.fixed_dictionaries(
        {
            "type": st.just("spaces"),
            "name": word,
            "endpoint": st.just("https://models.ams3.digitaloceanspaces.com"),
            "accessKeyId": secret | word,
            "secretAccessKey": secret,
        }
    )
)
image = st.sampled_from(["web", "web:1", "example.org/web@sha256:00"])
configs = optional(
    {
        "name": name,
        "image": st.sampled_from(["web", "web:1", "example.org/web@sha256:00"]),
        "resources": resources,
    },
    command=st.lists(value, max_size=3).filter(lambda words: words[:1] != [""]),
    enabled=st.booleans(),
    env=st.lists(variable, max_size=6),
    region=word,
    basicAuthKey=secret | line,
    containerRegistry=line,
    healthChecks=checks,
    integrations=st.lists(integration, max_size=4),
    hale=hale,
)


@given(configs, st.sampled_from(list(CLUSTERS)), st.sampled_from(VERSIONS))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_a_spec_is_refused_with_its_fields_or_becomes_what_every_cluster_takes(
    config: dict[str, Any], where: str, version: str
) -> None:
    try:
        rendered = render(load.from_body(config), cluster(where))
    except SpecError as error:
        fields = [problem.path for problem in error.problems]
        objects = ()
    else:
        fields = [note.path for note in rendered.notes]
        objects = rendered.objects
        assert rendered == render(load.from_body(config), cluster(where))
    assert wrong(objects, version) == []
    assert {re.split(r"[.\[]", field)[0] for field in fields} <= config.keys()
