"""Specs as the API shows, compares and takes them."""

from functools import lru_cache

from hale.api.models import JsonObject
from hale.core.deployment import Revision
from hale.errors import HaleError
from hale.spec.compile import MASK, gradient_part, template, whole
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
    """The config, where the mask that an earlier answer showed stands for the password that is there."""
    if config.get("basicAuthKey") != MASK or before is None:
        return config
    kept = spec_of(before.document).basic_auth_key
    return config if kept is None else {**config, "basicAuthKey": kept}
