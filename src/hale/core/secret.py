"""Named values that specs refer to, and how they are found. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MARK = "secret:"
"""What a reference begins with: `secret:NAME` stands for the value of NAME."""

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is kept and never shown. `project_id` is None for one of the team, for all projects.

    `modified_at` tells one value from the next.
    """

    name: str
    value: str = field(repr=False)
    created_at: float
    modified_at: float
    project_id: str | None = None


def is_name(text: str) -> bool:
    """Whether a secret may be called so: a letter, then letters, digits and `_`, 128 at most."""
    return _NAME.fullmatch(text) is not None


def reference(text: str) -> str | None:
    """The name that the text refers to; None if it is a value of its own."""
    return text.removeprefix(MARK) if text.startswith(MARK) else None


def visible(secrets: Iterable[Secret], project_id: str) -> dict[str, Secret]:
    """By name what a deployment of the project sees: the project's before the team's."""
    seen: dict[str, Secret] = {}
    for secret in secrets:
        if secret.project_id == project_id or (secret.project_id is None and secret.name not in seen):
            seen[secret.name] = secret
    return seen
