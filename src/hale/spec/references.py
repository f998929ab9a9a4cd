"""Where a spec refers to secrets, and what it gets for them. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from hale.core.secret import Secret, is_name, reference
from hale.errors import RefusedError
from hale.spec.problems import Loc, path
from hale.spec.schema import S3, Spaces, Spec

Known = Mapping[str, Secret]
"""Secrets by name."""


def references(spec: Spec) -> tuple[tuple[Loc, str], ...]:
    """Every place that refers to a secret, with the name of the secret."""
    named = ((loc, reference(text)) for loc, text in _texts(spec))
    return tuple((loc, name) for loc, name in named if name is not None)


def versions(spec: Spec, known: Known) -> Mapping[str, float]:
    """When each secret that replicas get was set: it tells one value from the next without showing either."""
    names = [name for loc, name in references(spec) if loc[0] != "basicAuthKey"]
    return {name: known[name].modified_at for name in names if name in known}


def by_name(secrets: Iterable[Secret]) -> Known:
    return {secret.name: secret for secret in secrets}


def resolved(loc: Loc, text: str, known: Known) -> str:
    """The text itself or the value that it refers to; the name of a secret never stands in for its value."""
    name = reference(text)
    if name is None:
        return text
    if name not in known:
        hint = f"hale secret set {name}" if is_name(name) else "write secret: and the name of a secret"
        raise RefusedError(f"cannot use {path(loc)}: the secret that it refers to is missing", hint=hint)
    return known[name].value


def _texts(spec: Spec) -> Iterator[tuple[Loc, str]]:
    """Everything that may be a reference."""
    for index, variable in enumerate(spec.env or ()):
        yield ("env", index, "value"), variable.value
    yield ("basicAuthKey",), spec.basic_auth_key or ""
    for index, each in enumerate(spec.integrations or ()):
        if isinstance(each, S3 | Spaces):
            yield ("integrations", index, "accessKeyId"), each.access_key_id or ""
            yield ("integrations", index, "secretAccessKey"), each.secret_access_key or ""
