"""The v1 spec as pydantic models, strict: Gradient's fields, and hale's own under `hale`.

Durations are seconds. None means "not said": the defaults are those of `hale.core`. Numbers that JSON
can't tell apart are one (8000.0 is 8000).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PrivateAttr,
    Strict,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from hale.spec import naming
from hale.spec.problems import Loc, Problem, SpecError
from hale.spec.tree import Source

MAX_REPLICAS = 10_000
MAX_PORTS = 64

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_LINE_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HEADER_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_HOST = re.compile(r"[\s/@?#]")
_PERCENT = re.compile(r"(?:100|[1-9]?[0-9])%")


def wrong(message: str) -> PydanticCustomError:
    """A problem in our own words: `must be …`, without the value."""
    return PydanticCustomError("hale", "{message}", {"message": message})


def needed(what: str) -> PydanticCustomError:
    """A problem whose message names what is needed; the value found is added to it."""
    return PydanticCustomError("needed", "{what}", {"what": what})


def _free_of(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if found := pattern.search(text):
            raise wrong(f"must not contain {what}, and has U+{ord(found.group()):04X}")
        return text

    return AfterValidator(check)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _ports(ports: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(ports) <= MAX_PORTS:
        raise wrong(f"must have 1 to {MAX_PORTS} entries, and has {len(ports)}")
    for index, port in enumerate(ports):
        if port in ports[:index]:
            raise wrong(f"must be different ports, and {port} is there twice")
    return ports


def _path(text: str) -> str:
    if " " in text:
        raise needed("a path without spaces (%20 stands for one)")
    return text


def _header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise needed("a header name of letters, digits and !#$%&'*+-.^_`|~")
    return text


def _header_value(text: str) -> str:
    if not text.isascii() and not all(ord(character) < 256 for character in text):
        raise needed("of Latin-1 characters")
    return text


def _host(text: str) -> str:
    if _NOT_IN_HOST.search(text):
        raise needed("a host name or an address")
    return text


def _program(command: tuple[str, ...]) -> tuple[str, ...]:
    if command and not command[0]:
        raise wrong("must begin with a program, and its first word is empty")
    return command


def _not_empty(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command:
        raise wrong("must not be empty")
    return command


def _env_name(text: str) -> str:
    if "=" in text:
        raise needed('a name without "="')
    return text


def _name(text: str) -> str:
    if why := naming.why_not(text):
        raise wrong(f"must be {why}")
    return text


def _share(value: object) -> object:
    value = _whole(value)
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_REPLICAS
    if whole or (isinstance(value, str) and _PERCENT.fullmatch(value)):
        return value
    raise needed(f'a whole number from 0 to {MAX_REPLICAS}, or "0%" to "100%"')


def _workdir(text: str) -> str:
    if not PurePosixPath(text).is_absolute():
        raise needed("an absolute path (in a file it may be relative to the file's folder)")
    return text


T = TypeVar("T")
Items = Annotated[tuple[T, ...], Strict(False)]  # noqa: FBT003  (a list is as good as a tuple)
Text = Annotated[str, _free_of(_CONTROL, "control characters")]
Line = Annotated[str, _free_of(_LINE_CONTROL, "control characters")]
Whole = Annotated[int, BeforeValidator(_whole)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Command = Annotated[Items[Text], AfterValidator(_program)]
Delay = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False), PlainSerializer(_short)]
Duration = Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False), PlainSerializer(_short)]
Pause = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False), PlainSerializer(_short)]
Long = Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False), PlainSerializer(_short)]
BackoffTime = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False), PlainSerializer(_short)]
Share = Annotated[int | str, BeforeValidator(_share)]


class Model(BaseModel):
    """Strict and closed; keys are camelCase; null is never a value."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_null(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("null", "null")
        return value


class Header(Model):
    name: Annotated[str, AfterValidator(_header_name)]
    value: Annotated[
        str, _free_of(_HEADER_CONTROL, "line breaks or control characters"), AfterValidator(_header_value)
    ]


class Exec(Model):
    command: Annotated[Command, AfterValidator(_not_empty)]


class Check(Model):
    """What both kinds of checks have."""

    initial_delay_seconds: Delay | None = None
    period_seconds: Duration | None = None
    timeout_seconds: Duration | None = None
    failure_threshold: Annotated[Whole, Field(ge=1, le=1000)] | None = None


class HttpCheck(Check):
    path: Annotated[Line, Field(min_length=1), AfterValidator(_path)]
    port: Port | None = None
    host: Annotated[Line, AfterValidator(_host)] | None = None
    headers: Items[Header] | None = None


class ExecCheck(Check):
    exec_: Annotated[Exec, Field(alias="exec")]


def _kind_of_check(value: object) -> str:
    if isinstance(value, ExecCheck) or (isinstance(value, dict) and "exec" in value):
        return "#exec"
    return "#http"


AnyCheck = Annotated[
    Annotated[HttpCheck, Tag("#http")] | Annotated[ExecCheck, Tag("#exec")], Discriminator(_kind_of_check)
]


class HealthChecks(Model):
    liveness: AnyCheck | None = None
    readiness: AnyCheck | None = None
    startup: AnyCheck | None = None


class Variable(Model):
    name: Annotated[Line, Field(min_length=1), AfterValidator(_env_name)]
    value: Annotated[Text, Field(min_length=1)]


class DurationMetric(Model):
    metric: Literal["requestDuration"]
    summary: Literal["average"]
    value: Annotated[float, Field(gt=0.01, le=100, allow_inf_nan=False), PlainSerializer(_short)]


class UsageMetric(Model):
    metric: Literal["cpu", "memory"]
    summary: Literal["average"]
    value: Annotated[Whole, Field(ge=1, le=100)]


def _chosen(key: str, tags: dict[str, str]) -> Discriminator:
    """Choose a model by one field; the error says which and what it may be."""

    def choose(value: object) -> str | None:
        found = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return tags.get(found) if isinstance(found, str) else None

    message = f"{key}: {', '.join(tags)}"
    return Discriminator(choose, custom_error_type="choice", custom_error_message=message)


Metric = Annotated[
    Annotated[DurationMetric, Tag("#duration")] | Annotated[UsageMetric, Tag("#usage")],
    _chosen("metric", {"requestDuration": "#duration", "cpu": "#usage", "memory": "#usage"}),
]


class Autoscaling(Model):
    enabled: bool | None = None
    max_replicas: Annotated[Whole, Field(ge=1, le=25)]
    metrics: Items[Metric]


class Scaled(Model):
    """The part of `resources` that every version has."""

    replicas: Annotated[Whole, Field(ge=0, le=MAX_REPLICAS)] = 1
    autoscaling: Autoscaling | None = None


class Resources(Scaled):
    machine_type: Line
    ports: Annotated[Items[Port], AfterValidator(_ports)]


Named = Annotated[Line, Field(min_length=1)]
SecretKey = Annotated[Line, Field(pattern=r"secret:")]


class GitLfs(Model):
    type: Literal["git-lfs"]
    name: Named
    url: Annotated[Line, Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s]+$")]
    path: Line | None = None


class S3(Model):
    type: Literal["s3"]
    name: Named
    url: Annotated[Line, Field(pattern=r"^s3://[a-zA-Z0-9_-]*/[a-zA-Z0-9_-]*")]
    path: Line | None = None
    region: Line | None = None
    access_key_id: Named | None = None
    secret_access_key: SecretKey | None = None
    endpoint: Line | None = None


class Spaces(Model):
    type: Literal["spaces"]
    name: Named
    endpoint: Annotated[Line, Field(pattern=r"^https://[a-z0-9-]+\.([a-z0-9-]+)\.digitaloceanspaces\.com$")]
    path: Line | None = None
    access_key_id: Named | None = None
    secret_access_key: SecretKey | None = None


class StoredModel(Model):
    type: Literal["model"]
    id: Line
    name: Line
    path: Line | None = None


class Volume(Model):
    type: Literal["volume"]
    name: Line


Integration = Annotated[
    Annotated[GitLfs, Tag("#git-lfs")]
    | Annotated[S3, Tag("#s3")]
    | Annotated[Spaces, Tag("#spaces")]
    | Annotated[StoredModel, Tag("#model")]
    | Annotated[Volume, Tag("#volume")],
    _chosen("type", {name: f"#{name}" for name in ("git-lfs", "s3", "spaces", "model", "volume")}),
]


class Strategy(Model):
    """How a revision takes over; not both shares may be 0."""

    max_surge: Share | None = None
    max_unavailable: Share | None = None
    progress_deadline_seconds: Long | None = None

    @model_validator(mode="after")
    def _can_move(self) -> Self:
        if self.max_surge in (0, "0%") and self.max_unavailable in (0, "0%"):
            raise wrong("maxSurge and maxUnavailable must not both be 0: no replica could ever be replaced")
        return self


class Backoff(Model):
    """How long before a restart; never nothing, which would be a restart loop without a pause."""

    initial_seconds: BackoffTime | None = None
    max_seconds: BackoffTime | None = None
    reset_after_seconds: Long | None = None


class Settings(Model):
    """hale's own part of the spec, under `hale`."""

    strategy: Strategy | None = None
    backoff: Backoff | None = None
    drain_seconds: Pause | None = None
    grace_period_seconds: Pause | None = None
    eager: bool | None = None
    workdir: Annotated[Line, Field(min_length=1), AfterValidator(_workdir)] | None = None
    pull: Literal["revision", "always", "never"] | None = None


class Common(Model):
    """The top-level fields that every version has."""

    name: Annotated[str, AfterValidator(_name)]
    image: Line | None = None
    enabled: bool = True
    container_registry: Line | None = None
    command: Command | None = None
    env: Items[Variable] | None = None
    region: Line | None = None
    health_checks: HealthChecks | None = None
    hale: Settings | None = None

    @field_validator("image")
    @classmethod
    def _no_empty_image(cls, image: str | None) -> str | None:
        """`image: ""` is how a spec without an image is shown to Gradient's clients."""
        return image or None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a spec was read from, for problems that are found later.

    `renamed` leads from fields of v1 to those of the version it was written in, `dropped` names fields
    that v1 has nothing for.
    """

    source: Source = field(default_factory=Source)
    renamed: Mapping[Loc, Loc] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


class Spec(Common):
    """A deployment as written, in version v1."""

    api_version: Literal["v1"] = "v1"
    health_checks: Annotated[
        HealthChecks | None,
        Field(
            validation_alias=AliasChoices("healthChecks", "healthchecks"), serialization_alias="healthChecks"
        ),
    ] = None
    basic_auth_key: Annotated[Line, Field(min_length=1)] | None = None
    integrations: Items[Integration] | None = None
    resources: Resources

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @property
    def origin(self) -> Origin:
        return self._origin

    def read_from(self, origin: Origin) -> "Spec":
        """Note where it was read from, and return it."""
        self._origin = origin
        return self

    def data(self) -> dict[str, Any]:
        """The whole spec as JSON values, with nothing masked."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def document(self) -> str:
        """The whole spec as canonical JSON: what is stored, and what equal specs have in common."""
        return json.dumps(self.data(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_document(cls, text: str) -> "Spec":
        """The spec that `document` wrote."""
        try:
            return cls.model_validate(json.loads(text))
        except (ValidationError, ValueError, RecursionError) as error:
            problem = Problem("", "it is not a document that this version of hale wrote")
            raise SpecError([problem], doing="read") from error

    def changed(
        self, *, replicas: int | None = None, enabled: bool | None = None, workdir: str | None = None
    ) -> "Spec":
        """The spec with another number of replicas, switched on or off, or in another folder."""
        if replicas is not None and not 0 <= replicas <= MAX_REPLICAS:
            message = f"must be a whole number from 0 to {MAX_REPLICAS}, not {replicas}"
            raise SpecError([Problem("resources.replicas", message)])
        spec = self
        if replicas is not None:
            resources = self.resources.model_copy(update={"replicas": replicas})
            spec = spec.model_copy(update={"resources": resources})
        if enabled is not None:
            spec = spec.model_copy(update={"enabled": enabled})
        if workdir is not None:
            own = (spec.hale or Settings()).model_copy(update={"workdir": _workdir(workdir)})
            spec = spec.model_copy(update={"hale": own})
        return spec
