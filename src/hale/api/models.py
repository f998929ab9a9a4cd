"""What the API answers and takes, as pydantic models: Gradient's shapes first, then hale's own."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

JsonObject = dict[str, Any]
"""Any JSON object: pydantic models it no further."""


class Answer(BaseModel):
    """What is answered: camelCase in JSON. Instants are ISO 8601 in UTC with milliseconds."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Request(BaseModel):
    """What is taken: nothing unknown, nothing converted."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


# --- Gradient's -----------------------------------------------------------------------------------


class Upsert(Request):
    """Create the deployment named in `config`, or update it (or the one with `deploymentId`)."""

    project_id: str
    deployment_id: str | None = None
    config: JsonObject


class Upserted(Answer):
    deployment_id: str


class Deleted(Answer):
    id: str


class SpecMarks(Answer):
    """One spec of a deployment and what has become of it. `data` is the Gradient part."""

    id: str
    deployment_id: str
    user_id: str
    data: JsonObject | None
    external_applied: str | None
    dt_healthy: str | None
    error: str | None
    metadata: JsonObject | None


class HistoricSpec(SpecMarks):
    workflow_run: None = None


class Deployment(Answer):
    id: str
    name: str
    project_id: str
    team_id: str
    endpoint: str
    dt_created: str
    latest_spec_hash: str | None
    basic_auth_key: str | None
    latest_spec: SpecMarks | None


class InstanceState(Answer):
    state: str
    message: str | None
    timestamp: str


class Instance(Answer):
    """One replica, as Gradient shows it."""

    id: str
    instance_id: str
    state: str
    state_message: str | None
    dt_created: str
    dt_finished: str | None
    history: list[InstanceState]


class Run(Answer):
    """The replicas of one spec. `availableReplicas` are "available but not ready"."""

    id: str
    replicas: int
    ready_replicas: int
    available_replicas: int
    instances: list[Instance]


class LogItem(Answer):
    """One line; its id, or the ids of the last line of each instance, goes on in `after`."""

    id: str
    job_id: str
    message: str
    uuid: None = None
    dt_created: str
    instance_id: str


class NewProject(Request):
    name: Annotated[str, Field(min_length=1, max_length=128)]


class Project(Answer):
    id: str
    name: str
    dt_created: str
    dt_deleted: str | None = None
    repo_node_id: None = None
    repo_name: None = None
    repo_url: None = None


class NewSecret(Request):
    name: str
    value: Annotated[str, Field(repr=False)]


class SecretValue(Request):
    value: Annotated[str, Field(repr=False)]


class Secret(Answer):
    """A secret without its value, which is never shown."""

    name: str
    dt_created: str
    dt_modified: str


class UsedSecret(Secret):
    """`hasDeploymentAttached`: the newest revision of a deployment was applied with it."""

    has_deployment_attached: bool


class DeletedSecret(Answer):
    name: str


RegistryKind = Literal["other", "dockerhub", "gcr", "ghcr", "digitalocean", "azure"]


class NewRegistry(Request):
    kind: RegistryKind | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)]
    namespace: str
    url: Annotated[str, Field(min_length=1, max_length=1000)]
    username: Annotated[str, Field(min_length=1)]
    password: Annotated[str, Field(repr=False)]


class RegistryChange(Request):
    """What is left out stays as it is."""

    kind: RegistryKind | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    namespace: str | None = None
    url: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password: Annotated[str | None, Field(repr=False)] = None


class Registry(Answer):
    """A connection without its password, which is never shown."""

    id: str
    name: str
    url: str
    namespace: str
    username: str
    dt_created: str
    dt_modified: str
    kind: RegistryKind


class Connection(Answer):
    """Whether the registry let us in; `error` says why not."""

    success: bool
    error: str | None = None


class Availability(Answer):
    available: bool


class Standing(Answer):
    is_in_good_standing: bool = True
    has_payment_method: bool = True
    is_admin_locked: bool = False
    messages: list[str] = []


# --- hale's own -----------------------------------------------------------------------------------


class Link(Answer):
    """One link of a cause: what happened, and when."""

    kind: str
    at: str
    message: str


class Result(Answer):
    at: str
    ok: bool
    status: int | None
    latency_ms: float
    detail: str
    eager: bool
    exited: bool


class Check(Answer):
    """A configured check of a replica; `results` are newest first, at most 20."""

    verdict: Literal["passing", "failing", "unknown"]
    streak: int
    failure_threshold: int
    results: list[Result]


class Next(Answer):
    action: str
    at: str | None
    reason: str


class Replica(Answer):
    """One replica as it is now."""

    id: str
    revision: int
    phase: str
    ready: bool
    since: str
    attempt: int
    restarts: int
    address: str | None
    pid: int | None
    container: str | None
    last_restart: list[Link] | None
    next: Next | None
    checks: dict[str, Check]


class Progress(Answer):
    """Parts (layers, files) and bytes; totals grow while it is found out what there is, 0: not known."""

    done: int
    total: int
    bytes_done: int
    bytes_total: int


class Preparation(Answer):
    """What a revision waits for before its first replica: an image, a volume.

    `failures` counts those in a row, `error` is the last one; `retryAt` is null while it is under way.
    """

    revision: int
    doing: str
    since: str
    progress: Progress
    failures: int
    error: str | None
    retry_at: str | None


class Health(Answer):
    deployment_id: str
    name: str
    revision: int
    endpoint: str
    preparation: Preparation | None
    replicas: list[Replica]


class Event(Answer):
    id: int
    at: str
    type: str
    level: Literal["normal", "warning"]
    message: str
    deployment_id: str | None
    revision: int | None
    replica_id: str | None
    attempt: int | None
    cause: list[Link]


class Revision(Answer):
    revision: int
    id: str
    created_at: str
    applied_at: str | None
    healthy_at: str | None
    error: str | None
    replicas: int
    enabled: bool
    image: str | None
    image_digest: str | None
    command: list[str]
    current: bool


class Change(Request):
    """What to change of the newest spec."""

    replicas: int | None = None
    enabled: bool | None = None


class Rollback(Request):
    """Where to: a number or spec id; left out: the revision before the current one."""

    revision: int | str | None = None


class Changed(Answer):
    """What is desired from now on: `revision` is its number, `id` its spec id."""

    deployment_id: str
    revision: int
    id: str


class RolledBack(Changed):
    """`like` is the number of the revision whose spec is desired again."""

    like: int


class Accepted(Answer):
    accepted: bool = True


class Server(Answer):
    version: str
    pid: int
    data: str
    gateway: str
    domain: str
    engine: str
