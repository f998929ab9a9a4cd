"""What an API server would say of manifests: the published schemas, and the rules beside them.

The rules are those of Kubernetes' validation (pkg/apis/*/validation), where they concern what hale prints.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import referencing
from jsonschema.validators import Draft202012Validator
from kubernetes_validate.utils import all_versions, schema_contents

from hale.kubernetes.manifests import Rendered, render
from hale.kubernetes.names import Known
from hale.kubernetes.settings import Settings
from hale.spec import load
from tests.kubernetes.definitions import DEFINITIONS

VERSIONS = [
    version for version in dict.fromkeys(all_versions()) if tuple(map(int, version.split(".")[:2])) >= (1, 30)
]

DIGEST = "example.org/web@sha256:" + "0123456789abcdef" * 4

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_HEADER = re.compile(r"[-A-Za-z0-9!#$%&'*+.^_`|~]+")


def given(config: Mapping[str, Any], settings: Mapping[str, Any] | None = None, **known: Any) -> Rendered:
    """A small deployment with an image, changed and rendered."""
    document = {"name": "web", "image": DIGEST, "resources": {"machineType": "C4", "ports": [8000]}, **config}
    return render(load.from_body(document), Settings.model_validate(settings or {}), Known(**known))


def of_kind(rendered: Rendered, kind: str) -> Any:
    """The one object of that kind."""
    (found,) = (each for each in rendered.objects if each["kind"] == kind)
    return found


def kinds(rendered: Rendered) -> list[str]:
    return [each["kind"] for each in rendered.objects]


def pod(rendered: Rendered) -> Any:
    return of_kind(rendered, "Deployment")["spec"]["template"]["spec"]


def container(rendered: Rendered) -> Any:
    return pod(rendered)["containers"][0]


def said(rendered: Rendered) -> dict[str, str]:
    """The notes, by field."""
    return {note.path: note.message for note in rendered.notes}


def wrong(objects: Iterable[Mapping[str, Any]], version: str) -> list[str]:
    """Everything that a cluster of that version would not take."""
    objects = list(objects)
    found = [f"{each['kind']}: {problem}" for each in objects for problem in _wrong(each, version)]
    ids = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in objects]
    return found + [f"{one} is there twice" for one in ids if ids.count(one) > 1]


def _wrong(document: Mapping[str, Any], version: str) -> Iterator[str]:
    for error in _validator(document["apiVersion"], document["kind"], version).iter_errors(document):
        yield f"{error.json_path}: {error.message}"
    yield from _metadata(document["metadata"])
    yield from _RULES.get(document["kind"], _nothing)(document)


@functools.cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    """The validator's own schemas, kept: reading them takes longer than using them."""
    if (api_version, kind) in DEFINITIONS:
        return Draft202012Validator(DEFINITIONS[api_version, kind])
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    name = f"kubernetes-json-schema/v{version}-local-strict/{kind.lower()}-{group}.json"
    return Draft202012Validator(schema_contents(name, version), registry=_registry(version))


@functools.cache
def _registry(version: str) -> Any:
    name = f"kubernetes-json-schema/v{version}-local-strict/_definitions.json"
    resource = referencing.Resource.from_contents(schema_contents(name, version))
    return resource @ referencing.Registry()


def _metadata(metadata: Mapping[str, Any]) -> Iterator[str]:
    if not _SUBDOMAIN.fullmatch(metadata["name"]) or len(metadata["name"]) > 253:
        yield f"name {metadata['name']}"
    yield from _labels(metadata["labels"])
    yield from (
        f"annotation {key}" for key in metadata.get("annotations", {}) if not _QUALIFIED.fullmatch(key)
    )


def _labels(labels: Mapping[str, str]) -> Iterator[str]:
    for key, value in labels.items():
        if not _QUALIFIED.fullmatch(key) or not _VALUE.fullmatch(value):
            yield f"label {key}={value}"


def _nothing(document: Mapping[str, Any]) -> Iterator[str]:
    return iter(())


def _service(document: Mapping[str, Any]) -> Iterator[str]:
    if not _SERVICE.fullmatch(document["metadata"]["name"]):
        yield "name"
    names = [port["name"] for port in document["spec"]["ports"]]
    if not names or len(set(names)) != len(names):
        yield f"ports {names}"


def _deployment(document: Mapping[str, Any]) -> Iterator[str]:
    spec = document["spec"]
    labels = spec["template"]["metadata"]["labels"]
    yield from _labels(labels)
    if not spec["selector"]["matchLabels"].items() <= labels.items():
        yield "the selector is not that of the pods"
    rolling = spec["strategy"]["rollingUpdate"].values()
    if all(share in (0, "0%") for share in rolling):
        yield "neither surge nor unavailable"
    if spec["progressDeadlineSeconds"] <= 0:
        yield "progressDeadlineSeconds"
    yield from _pod(spec["template"]["spec"])
    pause = spec["template"]["spec"]["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep")
    if pause and not 0 < pause["seconds"] <= spec["template"]["spec"]["terminationGracePeriodSeconds"]:
        yield "preStop.sleep"


def _job(document: Mapping[str, Any]) -> Iterator[str]:
    if not _LABEL.fullmatch(document["metadata"]["name"]):
        yield "name"
    yield from _labels(document["spec"]["template"]["metadata"]["labels"])
    yield from _pod(document["spec"]["template"]["spec"])


def _pod(spec: Mapping[str, Any]) -> Iterator[str]:
    volumes = [volume["name"] for volume in spec.get("volumes", ())]
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    names = [each["name"] for each in containers]
    if len(set(volumes)) != len(volumes) or len(set(names)) != len(names):
        yield "names of volumes or containers"
    for each in containers:
        yield from _container(each, volumes)


def _container(each: Mapping[str, Any], volumes: list[str]) -> Iterator[str]:
    if each["image"] != each["image"].strip() or not each["image"]:
        yield "image"
    mounts = each.get("volumeMounts", ())
    paths = [mount["mountPath"] for mount in mounts]
    if len(set(paths)) != len(paths) or any(":" in path or not path.startswith("/") for path in paths):
        yield f"mounts {paths}"
    if any(mount["name"] not in volumes for mount in mounts):
        yield "a mount of no volume"
    yield from _env(each["env"])
    ports = [port["name"] for port in each.get("ports", ())]
    if len(set(ports)) != len(ports) or any(len(name) > 15 for name in ports):
        yield f"ports {ports}"
    for kind in {"startupProbe", "readinessProbe", "livenessProbe"} & each.keys():
        yield from (f"{kind}: {problem}" for problem in _probe(kind, each[kind]))


def _env(variables: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    names = [variable["name"] for variable in variables]
    bad = [name for name in names if not _ENV.fullmatch(name) or name == "." or name.startswith("..")]
    if bad or len(set(names)) != len(names):
        yield f"env {names}"
    for variable in variables:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference and not (_KEY.fullmatch(reference["key"]) and _SUBDOMAIN.fullmatch(reference["name"])):
            yield f"secret {reference}"


def _probe(kind: str, probe: Mapping[str, Any]) -> Iterator[str]:
    least = {"initialDelaySeconds": 0, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1}
    for name, value in least.items():
        if type(probe[name]) is not int or not value <= probe[name] < 2**31:
            yield f"{name} {probe[name]}"
    if len({"exec", "httpGet", "tcpSocket"} & probe.keys()) != 1:
        yield "handlers"
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and (kind == "readinessProbe" or grace <= 0):
        yield "terminationGracePeriodSeconds"
    if probe["successThreshold"] != 1:
        yield "successThreshold"
    get = probe.get("httpGet", {"path": "/", "port": 1})
    if not get["path"] or not 1 <= get["port"] <= 65535:
        yield "httpGet"
    if any(not _HEADER.fullmatch(header["name"]) for header in get.get("httpHeaders", ())):
        yield "httpHeaders"


def _autoscaler(document: Mapping[str, Any]) -> Iterator[str]:
    spec = document["spec"]
    if not 1 <= spec["minReplicas"] <= spec["maxReplicas"] or not spec["metrics"]:
        yield "minReplicas"


def _ingress(document: Mapping[str, Any]) -> Iterator[str]:
    for rule in document["spec"]["rules"]:
        if not _SUBDOMAIN.fullmatch(rule["host"]) or len(rule["host"]) > 253:
            yield f"host {rule['host']}"


_RULES = {
    "Service": _service,
    "Deployment": _deployment,
    "Job": _job,
    "HorizontalPodAutoscaler": _autoscaler,
    "Ingress": _ingress,
}
