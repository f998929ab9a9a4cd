"""Specs as the API shows, compares and takes them."""

import json
from functools import lru_cache

from hale.api.models import JsonObject
from hale.core.deployment import Revision
from hale.errors import HaleError
from hale.spec.compile import gradient_part, template, whole
from hale.spec.masks import unmasked
from hale.spec.schema import Spec


@lru_cache(maxsize=256)
def spec_of(document: str) -> Spec:
    return Spec.from_document(document)


def shown_whole(revision: Revision) -> JsonObject:
    """The spec with hale's own settings."""
    return whole(spec_of(revision.document))


def shown_to_gradient(revision: Revision) -> JsonObject | None:
    """What strict clients can read; None when this version of hale can't read the spec any more."""
    try:
        return gradient_part(spec_of(revision.document))
    except HaleError:
        return None


def template_key(revision: Revision) -> str:
    """Equal for revisions whose replicas are alike."""
    return template(spec_of(revision.document), secrets=revision.secrets, image=revision.image).key


def resubmitted(config: JsonObject, before: Revision | None) -> JsonObject:
    """The config, where masks that an earlier answer showed stand for the passwords that are there."""
    return config if before is None else unmasked(config, json.loads(before.document))
