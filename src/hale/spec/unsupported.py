"""What is valid and can't be done on this machine: refused when applied, never accepted and ignored."""

import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from shlex import quote

from hale.core.secret import is_name, reference
from hale.core.volume import variable
from hale.spec.masks import MASK, is_masked
from hale.spec.problems import Loc, Problem, path, shown
from hale.spec.references import references
from hale.spec.schema import S3, GitLfs, Integration, Spaces, Spec, StoredModel, Volume
from hale.spec.volumes import mount_point

MAX_INTEGRATIONS = 5

_SECRET_NAME = "a letter, then letters, digits and _, 128 at most"  # noqa: S105
_NAME_BYTES = 128
_SCHEMES = ("https", "http", "ssh", "git", "file")
_CUT_OFF = re.compile(r"[^/]+://[^/?#@\[]*:(?!\d*(?:[/?#]|$))[^@/?#]*(?:[/?#]|$)")
"""A url whose user ends at a `/`, `?` or `#` of the password."""
_SYSTEM = tuple(map(PurePosixPath, ("/proc", "/sys", "/dev")))
"""Folders that the kernel fills."""


def refusals(spec: Spec) -> list[Problem]:
    """Every reason why this spec can't be applied here, each with the field as it is written."""
    return [*_integrations(spec), *_dropped(spec), *_scaling(spec), *_references(spec), *_mask(spec)]


def missing_secrets(spec: Spec, known: Collection[str]) -> list[Problem]:
    """Every reference to a secret that is not among the `known` names."""
    return [
        _problem(spec, loc, f"there is no secret {name}", f"hale secret set {name}")
        for loc, name in references(spec)
        if is_name(name) and name not in known
    ]


def missing_registry(spec: Spec, known: Collection[str]) -> list[Problem]:
    """That `containerRegistry` is not among the `known` names of connections."""
    name = spec.container_registry
    if not name or name in known:
        return []
    message = f"there is no registry connection {shown(name)}"
    return [_problem(spec, ("containerRegistry",), message, f"hale registry add {quote(name)}")]


def notes(spec: Spec) -> list[str]:
    """What is accepted and makes no difference here; warnings."""
    said = ["region has no effect here: replicas run on this machine"] if spec.region else []
    if not spec.image:
        idle = {"containerRegistry": spec.container_registry, "hale.pull": spec.hale and spec.hale.pull}
        said += [
            f"{field} has no effect: there is no image to pull" for field, value in idle.items() if value
        ]
    names = [variable.name for variable in spec.env or ()]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    return said + [f"env has {name} more than once: the last one counts" for name in twice]


def _problem(spec: Spec, loc: Loc, message: str, hint: str = "") -> Problem:
    return spec.origin.source.problem(_loc(spec, loc), message, hint)


def _loc(spec: Spec, loc: Loc) -> Loc:
    """The place in the file, which may be in another dialect."""
    for old, new in spec.origin.renamed.items():
        if loc[: len(old)] == old:
            return new
    root = spec.origin.source.root
    if root and loc[:1] == ("healthChecks",) and root.child("healthChecks") is None:
        return ("healthchecks", *loc[1:])
    return loc


def _integrations(spec: Spec) -> Iterator[Problem]:
    every = spec.integrations or ()
    if len(every) > MAX_INTEGRATIONS:
        message = f"must have at most {MAX_INTEGRATIONS} entries, and has {len(every)}"
        yield _problem(
            spec, ("integrations",), message, "put what belongs together in one bucket or repository"
        )
    found = [problem for index, each in enumerate(every) for problem in _integration(spec, index, each)]
    yield from dict.fromkeys(found)  # all stored models of v0alpha0 are one field
    if not found:
        yield from _clashes(spec, every)


def _integration(spec: Spec, index: int, each: Integration) -> Iterator[Problem]:
    at: Loc = ("integrations", index)
    if isinstance(each, StoredModel):
        hint = "write an integration of type git-lfs or s3, or put the model into the image"
        yield _problem(spec, at, "stored models don't exist here", hint)
        return
    if why := _bad_name(each.name):
        yield _problem(spec, (*at, "name"), f"must be {why}, not {shown(each.name)}")
        return
    if why := _bad_target(each):
        yield _problem(spec, _place_of_target(at, each), why)
    match each:
        case S3():
            if each.url.startswith("s3:///"):
                yield _problem(spec, (*at, "url"), "names no bucket", "write s3://BUCKET/")
            yield from _credentials(spec, at, each)
        case Spaces():
            yield from _credentials(spec, at, each)
        case GitLfs():
            yield from _repository(spec, (*at, "url"), each.url)


def _repository(spec: Spec, at: Loc, url: str) -> Iterator[Problem]:
    scheme = url.partition(":")[0].lower()
    if scheme not in _SCHEMES:
        yield _problem(spec, at, f"must be an address of {', '.join(_SCHEMES)}, not of {scheme}")
    elif _CUT_OFF.match(url):
        # Nobody could tell its password from the rest, to use or to mask it.
        hint = "in a password write %2F for /, %3F for ? and %23 for #"
        yield _problem(spec, at, "has a port that is no number", hint)


def _bad_name(name: str) -> str:
    """What the name must be, where it is not: it becomes the last part of a path."""
    if "/" in name or name in ("", ".", ".."):
        return "the name of a folder, without /"
    return f"at most {_NAME_BYTES} bytes long" if len(name.encode()) > _NAME_BYTES else ""


def _bad_target(each: Integration) -> str:
    written = None if isinstance(each, Volume) else each.path
    if written is not None and not written.startswith("/"):
        return f"must be an absolute path, not {shown(written)}"
    target = PurePosixPath(mount_point(each))
    if ".." in target.parts:
        return f"must be a path without .., not {shown(written)}"
    if ":" in str(target):
        return f"must be without a colon, which no engine can mount, not {shown(written or each.name)}"
    for folder in _SYSTEM:
        if target.is_relative_to(folder):
            return f"must not be in {folder}, where the kernel's own files are"
    return ""


def _place_of_target(at: Loc, each: Integration) -> Loc:
    return (*at, "name" if isinstance(each, Volume) or each.path is None else "path")


def _credentials(spec: Spec, at: Loc, each: S3 | Spaces) -> Iterator[Problem]:
    key = each.secret_access_key
    if key is not None and reference(key) is None:
        yield _problem(
            spec, (*at, "secretAccessKey"), "must be a reference and nothing else, like secret:NAME"
        )
    if (key is None) != (each.access_key_id is None):
        there, missing = "secretAccessKey", "accessKeyId"
        if key is None:
            there, missing = missing, there
        yield _problem(spec, (*at, there), f"is there without {missing}", "write both, or neither")


def _clashes(spec: Spec, every: Collection[Integration]) -> Iterator[Problem]:
    """Integrations that get in each other's way: by name, by variable, by mount point."""
    earlier: list[tuple[int, Integration]] = []
    for index, each in enumerate(every):
        for other, before in earlier:
            if problem := _clash(spec, index, each, other, before):
                yield problem
                break
        earlier.append((index, each))


def _clash(spec: Spec, index: int, each: Integration, other: int, before: Integration) -> Problem | None:
    at: Loc = ("integrations", index)
    whose = path(("integrations", other))
    if each.name == before.name:
        return _problem(spec, (*at, "name"), f"is the name of {whose} too", "give each its own")
    if variable(each.name) == variable(before.name):
        message = f"stands for {variable(each.name)}, as the name of {whose} does"
        return _problem(spec, (*at, "name"), message, "give each its own")
    target, theirs = PurePosixPath(mount_point(each)), PurePosixPath(mount_point(before))
    if target.is_relative_to(theirs) or theirs.is_relative_to(target):
        message = f"would be mounted at {target}, and {whose} at {theirs}"
        return _problem(spec, _place_of_target(at, each), message, "give each a folder of its own")
    return None


def _dropped(spec: Spec) -> Iterator[Problem]:
    for field in spec.origin.dropped:
        hint = "set apiVersion: v1 and write integrations of type git-lfs"
        yield _problem(spec, (field,), "repositories can't be mounted here", hint)


def _scaling(spec: Spec) -> Iterator[Problem]:
    autoscaling = spec.resources.autoscaling
    if autoscaling and autoscaling.enabled is not False:
        loc = ("resources", "autoscaling")
        yield _problem(spec, loc, "can't be done here yet", "remove it or set enabled: false; replicas stays")


def _references(spec: Spec) -> Iterator[Problem]:
    for loc, name in references(spec):
        if not is_name(name):
            yield _problem(
                spec, loc, "refers to a secret by a name that none has", f"a name is {_SECRET_NAME}"
            )


def _mask(spec: Spec) -> Iterator[Problem]:
    if spec.basic_auth_key == MASK:
        message = "is the mask that hale shows for a password, not a password"
        yield _problem(spec, ("basicAuthKey",), message, "write the password")
    for index, each in enumerate(spec.integrations or ()):
        if isinstance(each, GitLfs) and is_masked(each.url):
            message = "has the mask that hale shows for a user and password"
            yield _problem(spec, ("integrations", index, "url"), message, "write them")
