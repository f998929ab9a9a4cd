"""What a kubelet makes of variables, by the rules of its third_party/forked/golang/expansion."""

from collections.abc import Iterable, Mapping
from typing import Any


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$$` is a `$`, `$(NAME)` the value; a name that is not known and any other `$` stay."""
    made, index = "", 0
    while index < len(text):
        following = text[index + 1 : index + 2]
        if text[index] != "$" or not following:
            made, index = made + text[index], index + 1
        elif following == "$":
            made, index = made + "$", index + 2
        elif following == "(" and (end := text.find(")", index)) != -1:
            name = text[index + 2 : end]
            made, index = made + variables.get(name, f"$({name})"), end + 1
        else:
            made, index = made + text[index : index + 2], index + 2
    return made


def environment(entries: Iterable[Mapping[str, Any]], secrets: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container, each with those before it; `secrets` by key."""
    made: dict[str, str] = {}
    for entry in entries:
        if "valueFrom" in entry:
            made[entry["name"]] = secrets[entry["valueFrom"]["secretKeyRef"]["key"]]
        else:
            made[entry["name"]] = expanded(entry["value"], made)
    return made
