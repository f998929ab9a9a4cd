"""Variables of replicas: hale's `$NAME`, in the words of a cluster. Pure.

What a variable stands for is put in here, as far as it is known here; one whose value comes from a Secret
becomes `$(NAME)`, which the kubelet puts in. A `$` that stands for itself is written `$$` for it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hale.core.secret import is_name, reference
from hale.core.volume import variable
from hale.kubernetes.findings import Findings
from hale.kubernetes.names import Object
from hale.kubernetes.parts import Parts
from hale.spec.problems import Loc
from hale.spec.schema import Spec

EVERYWHERE = "0.0.0.0"  # noqa: S104  (inside the container)

_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})", re.ASCII
)
_NAME = re.compile(r"(?!\.$|\.\.)[-._A-Za-z][-._A-Za-z0-9]*", re.ASCII)
"""What every version of Kubernetes takes."""
_LONGEST = 128 << 10
"""Characters, as on one machine: the kernel takes no longer ones."""


@dataclass(frozen=True, slots=True)
class Late:
    """A variable whose value the kubelet alone knows."""

    name: str


Text = tuple[str | Late, ...]
"""A value in pieces; none of them is empty."""


def escaped(text: str) -> str:
    """Text that means itself where a cluster looks for variables."""
    return text.replace("$", "$$")


def for_kubelet(text: Text) -> str:
    """The text as it stands in a manifest."""
    return "".join(escaped(piece) if isinstance(piece, str) else f"$({piece.name})" for piece in text)


@dataclass(frozen=True, slots=True)
class Variables:
    """The container's own, in order, and what they stand for in commands."""

    env: tuple[Object, ...]
    values: Mapping[str, Text]


def variables(parts: Parts) -> Variables:
    """hale's and the spec's, which win; of a name that is there twice the last one counts."""
    spec, findings = parts.spec, parts.findings
    own = {"HOST": EVERYWHERE, "PORT": str(parts.port)}
    own |= {f"PORT_{port}": str(port) for port in parts.template.ports}
    own |= {variable(source.name): source.target for source in parts.template.sources}
    values: dict[str, Text] = {name: (value,) for name, value in own.items()}
    entries = {name: {"name": name, "value": escaped(value)} for name, value in own.items()}
    twice = _twice(spec)
    for index, each in enumerate(spec.env or ()):
        loc: Loc = ("env", index, "value")
        _check_name(each.name, ("env", index, "name"), findings)
        entries.pop(each.name, None)  # the last one counts, and its place too
        entry: Object = {"name": each.name}
        name = reference(each.value)
        if name is not None:
            values[each.name] = (Late(each.name),)
            entries[each.name] = entry | {"valueFrom": from_secret(parts.names.secrets, name)}
            continue
        value = _expanded(each.value, values, loc, findings)
        _check_order(value, twice, loc, findings)
        values[each.name] = value
        entries[each.name] = entry | {"value": for_kubelet(value)}
    for name in twice:
        findings.note(("env",), f"has {name} more than once: the last one counts")
    return Variables(tuple(entries.values()), values)


def command(parts: Parts, found: Variables) -> list[str]:
    """The command of a container, with the variables put in."""
    return [
        for_kubelet(_expanded(word, found.values, ("command", index), parts.findings))
        for index, word in enumerate(parts.template.command)
    ]


def from_secret(secret: str, key: str) -> Object:
    return {"secretKeyRef": {"name": secret, "key": key}}


def referenced(spec: Spec) -> tuple[str, ...]:
    """The secrets that the variables of replicas refer to, in order."""
    names = (reference(each.value) for each in spec.env or ())
    return tuple(dict.fromkeys(name for name in names if name is not None and is_name(name)))


def _twice(spec: Spec) -> Mapping[str, None]:
    names = [each.name for each in spec.env or ()]
    return dict.fromkeys(name for index, name in enumerate(names) if name in names[:index])


def _check_name(name: str, loc: Loc, findings: Findings) -> None:
    if not _NAME.fullmatch(name):
        hint = "letters, digits, -, _ and . are allowed, and no digit at the beginning"
        findings.refuse(loc, "can't be the name of a variable on a cluster", hint)


def _check_order(value: Text, twice: Mapping[str, None], loc: Loc, findings: Findings) -> None:
    """The kubelet looks a name up among the variables before it, where each is there once."""
    for piece in value:
        if isinstance(piece, Late) and piece.name in twice:
            message = f"uses {piece.name}, which comes from a secret and is there more than once"
            findings.refuse(loc, message, "leave one of them")


def _expanded(text: str, values: Mapping[str, Text], loc: Loc, findings: Findings) -> Text:
    pieces: list[str | Late] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        pieces.append(text[end : found.start()])
        pieces += _value(found, values, loc, findings)
        end = found.end()
    pieces.append(text[end:])
    if sum(len(piece) for piece in pieces if isinstance(piece, str)) > _LONGEST:
        findings.refuse(loc, f"becomes longer than {_LONGEST >> 10} KiB", "shorten the variables it uses")
        return ()
    return tuple(piece for piece in pieces if piece)


def _value(found: re.Match[str], values: Mapping[str, Text], loc: Loc, findings: Findings) -> Text:
    if found["escaped"]:
        return ("$",)
    known = values.get(found["plain"] or found["braced"])
    if known is not None:
        return known
    message = f"{found[0]} stays as it is written: it is no variable of hale or of the spec"
    findings.note(loc, message, "one of the image is known to a shell in it: sh -c …")
    return (found[0],)
