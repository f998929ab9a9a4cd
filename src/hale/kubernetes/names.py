"""Names of objects, labels of objects: valid for any deployment, and never the same for two. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hale.spec import naming

Object = dict[str, Any]
"""A manifest, or a part of one, as JSON has it."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "hale"}
DEPLOYMENT, DEPLOYMENT_ID, REVISION = "hale/deployment", "hale/deployment-id", "hale/revision"
COMPONENT = "app.kubernetes.io/component"
NAME = "hale/name"
"""An annotation: the deployment's name as it is written."""

LONGEST = naming.MAX_SLUG
_HASH = 10
_PLAIN = re.compile(r"[a-z](?:[a-z0-9]|-(?!-))*(?<!-)")
_HASHED = re.compile(rf".*-[0-9a-f]{{{_HASH}}}")
_OTHER = re.compile(r"[^a-z0-9]+")


def digest(*parts: object, length: int = _HASH) -> str:
    """A short digest of JSON values."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def label(text: str) -> str:
    """A DNS label of at most 40 characters that begins with a letter, different for different texts.

    A text that is one already stands for itself, unless it looks like what is made of others: those get
    a digest at the end.
    """
    if len(text) <= LONGEST and _PLAIN.fullmatch(text) and not _HASHED.fullmatch(text):
        return text
    return f"{readable(text, LONGEST - _HASH - 1)}-{digest(text)}"


def readable(text: str, length: int) -> str:
    """What a person recognizes of the text: it begins with a letter and ends with a letter or digit."""
    head = _OTHER.sub("-", text.lower()).strip("-")
    if not head[:1].isalpha():
        head = f"x-{head}"
    return head[:length].rstrip("-")


def registry_secret(connection: str) -> str:
    """The Secret with the login of a registry connection. No deployment's name has a dot."""
    return f"registry.{label(connection)}"


@dataclass(frozen=True, slots=True)
class Known:
    """What the server knows of a revision beside its spec; all of it may be missing.

    `secrets` are the instants at which each was set, by name: they tell one value from the next. `image` is
    what the image's name stood for when the revision was applied. `revision` is its number.
    """

    id: str | None = None
    slug: str | None = None
    revision: int | None = None
    image: str | None = None
    secrets: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What the objects of one deployment are called. `base` is the name of most of them."""

    namespace: str
    base: str
    slug: str
    written: str
    revision: str
    id: str | None = None

    @classmethod
    def of(cls, name: str, document: str, known: Known, namespace: str) -> "Names":
        """Without a server the name decides, and a digest of the spec stands for the revision's number."""
        base = label(name if known.slug is None else known.slug)
        slug = naming.slug(name, ()) if known.slug is None else known.slug
        revision = digest(document) if known.revision is None else str(known.revision)
        return cls(namespace, base, slug, name, revision, known.id)

    @property
    def secrets(self) -> str:
        """The Secret that `secret:` references lead to: its keys are the names of the secrets."""
        return f"{self.base}-secrets"

    @property
    def password(self) -> str:
        """The Secret that protects the endpoint."""
        return f"{self.base}-basic-auth"

    def volume(self, name: str, *content: object) -> str:
        """The claim of an integration; other content, another claim."""
        return f"{self.base}-{readable(name, 13)}-{digest(name, *content, length=8)}"

    def filling(self, job: Object) -> str:
        """A Job can't be changed, so another one has another name."""
        return f"{self.base}-fill-{digest(job)}"

    def hosts(self, domain: str) -> list[str]:
        """The host names of the endpoint, as on one machine."""
        by_id = [f"d{self.id.replace('-', '')}.{domain}"] if self.id else []
        return [f"{self.slug}.{domain}", *by_id]

    def selector(self, component: str = "replica") -> Object:
        """What pods are found by: it must never change."""
        return {DEPLOYMENT: self.base, COMPONENT: component}

    def pod(self, component: str = "replica") -> Object:
        """Labels of pods. The revision is not among them: a change of scale replaces no replica."""
        return {"app.kubernetes.io/name": self.base, **MANAGED_BY, **self.selector(component)}

    def metadata(self, name: str, annotations: Mapping[str, str] | None = None) -> Object:
        labels = {"app.kubernetes.io/name": self.base, **MANAGED_BY, DEPLOYMENT: self.base}
        if self.id:
            labels[DEPLOYMENT_ID] = self.id
        labels[REVISION] = self.revision
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": labels,
            "annotations": {NAME: self.written, **(annotations or {})},
        }
