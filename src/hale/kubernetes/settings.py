"""What a cluster is like, as its operator says: one frozen object, from a file of YAML or JSON. Pure.

Keys are camelCase, unknown ones are refused, and everything has a default but what only an operator knows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from hale.core.deployment import Machine as SizedMachine
from hale.errors import RefusedError
from hale.machines import GRADIENT
from hale.spec import yaml_text
from hale.spec.problems import Problem, SpecError, shown
from hale.spec.schema import Line, Model, Whole, needed, wrong
from hale.spec.tree import MAX_BYTES, Source

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DOMAIN_LENGTH = 253 - 41
"""Characters: a deployment's label and a dot go before it in a host name."""
_QUANTITY = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)?([KMGTPE]i|[kMGTPE])?")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_ADDRESS = re.compile(r"https?://[^\s/]+[^\s]*")
_PARTS = 63


def _like(pattern: re.Pattern[str], longest: int, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > longest or not pattern.fullmatch(text):
            raise needed(what)
        return text

    return AfterValidator(check)


def _domain(text: str) -> str:
    if len(text) > _DOMAIN_LENGTH or any(len(part) > _PARTS for part in text.split(".")):
        raise needed(f"at most {_DOMAIN_LENGTH} characters long, and each of its parts at most {_PARTS}")
    return text


Namespace = Annotated[
    Line, _like(_LABEL, _PARTS, "a name of small letters, digits and -, at most 63 characters")
]
ObjectName = Annotated[Line, _like(_NAME, 253, "a name of small letters, digits, - and .")]
Domain = Annotated[
    Line, _like(_NAME, 253, "a domain of small letters, digits and -"), AfterValidator(_domain)
]
Quantity = Annotated[Line, _like(_QUANTITY, 32, "a quantity of Kubernetes, like 512Mi or 8Gi")]
Qualified = Annotated[Line, _like(_QUALIFIED, 63, "a name like example.org/pool, at most 63 characters")]
Resource = Annotated[Line, _like(_RESOURCE, 63, "a name like nvidia.com/gpu, at most 63 characters")]
LabelValue = Annotated[Line, _like(_LABEL_VALUE, _PARTS, "the value of a label")]
Address = Annotated[Line, _like(_ADDRESS, 2000, "an address like http://prometheus.monitoring:9090")]
Image = Annotated[Line, Field(min_length=1)]
Seconds = Annotated[Whole, Field(ge=0, le=3600)]

Controller = Literal["ingress-nginx", "traefik", "envoy-gateway", "other"]
_SERVES: Mapping[str, tuple[str, ...]] = {
    "ingress-nginx": ("ingress",),
    "traefik": ("ingress", "gateway"),
    "envoy-gateway": ("gateway",),
    "other": ("ingress", "gateway", "none"),
}


class Machine(Model):
    """What a machine type gets here; `gpuResource` is what the device plugin calls a GPU."""

    cpus: Annotated[float, Field(ge=0.001, le=10_000, allow_inf_nan=False)] | None = None
    memory: Quantity | None = None
    gpus: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    gpu_resource: Resource = "nvidia.com/gpu"
    node_selector: dict[Qualified, LabelValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, sized: SizedMachine) -> Self:
        """Gradient's own type of that name."""
        sizes = {
            "cpus": None if sized.cpus is None else float(sized.cpus),
            "memory": None if sized.memory is None else _binary(sized.memory),
            "gpus": sized.gpus,
        }
        return cls.model_validate({name: size for name, size in sizes.items() if size is not None})


class Gateway(Model):
    """The Gateway that routes attach to; its namespace is the deployment's own by default."""

    name: ObjectName
    namespace: Namespace | None = None
    section_name: ObjectName | None = None


class Route(Model):
    """How requests come in, and whose controller serves them."""

    kind: Literal["ingress", "gateway", "none"] = "ingress"
    controller: Controller = "other"
    ingress_class: ObjectName | None = None
    tls_secret: ObjectName | None = None
    gateway: Gateway | None = None
    annotations: dict[Qualified, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind not in _SERVES[self.controller]:
            raise wrong(
                f"{self.controller} serves kind: {' or '.join(_SERVES[self.controller])}, not {self.kind}"
            )
        if (self.kind == "gateway") != (self.gateway is not None):
            raise wrong("kind: gateway and a gateway to attach to belong together: write both, or neither")
        if self.kind != "ingress" and (self.ingress_class or self.tls_secret):
            raise wrong("ingressClass and tlsSecret belong to kind: ingress")
        return self


class Prometheus(Model):
    """Who knows how long requests take. `query` is needed where the controller's own metrics aren't known.

    `$namespace`, `$name` and `$port` stand for those of the deployment's Service.
    """

    address: Address
    query: Line | None = None


class Volumes(Model):
    """What integrations are kept on."""

    storage_class: ObjectName | None = None
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"
    size: Quantity = "10Gi"


class Images(Model):
    """What fills volumes: rclone, and git with git-lfs, each with a shell."""

    s3: Image = "rclone/rclone:1.75.1"
    git: Image = "alpine/git:v2.49.1"


class Settings(Model):
    """A cluster. `preStopSeconds` closes the race between an endpoint's removal and SIGTERM."""

    namespace: Namespace = "default"
    domain: Domain = "localhost"
    route: Route = Route()
    machines: dict[Annotated[Line, Field(min_length=1)], Machine] = Field(default_factory=dict)
    prometheus: Prometheus | None = None
    volumes: Volumes = Volumes()
    images: Images = Images()
    pre_stop_seconds: Seconds = 5
    native_sleep: bool = True
    revision_history_limit: Annotated[Whole, Field(ge=0, le=1000)] = 10

    def machine(self, name: str) -> Machine | None:
        """The operator's word, or Gradient's public sizes; None for a type that neither knows."""
        if name in self.machines:
            return self.machines[name]
        return Machine.of(GRADIENT[name]) if name in GRADIENT else None

    def changed(self, *, namespace: str | None = None, domain: str | None = None) -> "Settings":
        """With what was said elsewhere in the place of the file's; RefusedError if it can't be."""
        given = {"namespace": namespace, "domain": domain}
        return _made(
            {
                **self.model_dump(by_alias=True, exclude_none=True),
                **{key: value for key, value in given.items() if value is not None},
            },
            Source(),
        )


def read(text: bytes, filename: str) -> Settings:
    """The settings of a file (JSON is YAML too); RefusedError with all that is wrong in it."""
    if len(text) > MAX_BYTES:
        raise refused([Problem("", f"larger than {MAX_BYTES >> 10} KiB", filename)])
    try:
        parsed = yaml_text.parse(text.decode("utf-8-sig"), filename)
    except UnicodeDecodeError as error:
        raise refused([Problem("", f"not UTF-8: byte 0x{text[error.start]:02x}", filename)]) from error
    except SpecError as error:
        raise refused(error.problems) from error
    if parsed.problems:
        raise refused(parsed.problems)
    source, document = Source(filename, parsed.root), parsed.root.plain()
    if document is None:
        return Settings()
    if not isinstance(document, dict):
        raise refused([source.problem((), f"must be a mapping, not {shown(document)}")])
    return _made(document, source)


def refused(problems: Sequence[Problem]) -> RefusedError:
    """One sentence, or all of them below each other."""
    said = [str(problem) for problem in problems]
    text = said[0] if len(said) == 1 else "".join(f"\n  {each}" for each in said)
    return RefusedError(f"cannot use the settings of the cluster: {text}")


def _made(document: Mapping[str, object], source: Source) -> Settings:
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise refused(list(_problems(error, source))) from error


def _problems(error: ValidationError, source: Source) -> Iterator[Problem]:
    for details in error.errors(include_url=False):
        loc = tuple(part for part in details["loc"] if part != "[key]")
        yield source.problem(loc, _message(details["type"], details["msg"], details.get("input")))


def _message(kind: str, said: str, value: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    if kind == "null":
        return "must not be empty (null)"
    if kind == "needed":
        return f"must be {said}, not {shown(value)}"
    if kind == "hale":
        return said
    return f"{said[:1].lower()}{said[1:]}, not {shown(value)}"


def _binary(count: int) -> str:
    """Bytes as a quantity, in the largest unit that has no fraction."""
    for unit in ("", "Ki", "Mi", "Gi"):
        if count % 1024 or unit == "Gi":
            return f"{count}{unit}"
        count //= 1024
    raise AssertionError
