"""What is shown in place of passwords that a spec has in it, and what such a mask stands for. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from hale.core.secret import reference

MASK = "***"

_USER = re.compile(r"(?<=://)[^/?#]*(?=@)")
_MASKED = re.compile(rf"://{re.escape(MASK)}@")

Document = dict[str, Any]
"""A spec as JSON has it."""


def masked(data: Document) -> Document:
    """The spec with no password in it: neither of the endpoint nor of a repository's url."""
    shown = dict(data)
    key = data.get("basicAuthKey")
    if key is not None and reference(key) is None:
        shown["basicAuthKey"] = MASK
    if "integrations" in data:
        shown["integrations"] = [
            each | {"url": masked_url(each["url"])} if "url" in each else each
            for each in data["integrations"]
        ]
    return shown


def masked_url(url: str) -> str:
    """Without its user, which may be a token, and password; of ssh a user alone is no secret."""
    found = _USER.search(url)
    if found is None or (url.lower().startswith("ssh:") and ":" not in found.group()):
        return url
    return url[: found.start()] + MASK + url[found.end() :]


def is_masked(url: str) -> bool:
    return _MASKED.search(url) is not None


def unmasked(config: Document, before: Mapping[str, Any]) -> Document:
    """The spec as it was sent, where each mask that an answer showed stands for what was `before`."""
    meant = dict(config)
    if config.get("basicAuthKey") == MASK and "basicAuthKey" in before:
        meant["basicAuthKey"] = before["basicAuthKey"]
    if isinstance(config.get("integrations"), list):
        urls = {(each["name"], masked_url(each["url"])): each["url"] for each in _with_urls(before)}
        meant["integrations"] = [_unmasked(each, urls) for each in config["integrations"]]
    return meant


def _with_urls(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in spec.get("integrations", ()) if "url" in each]


def _unmasked(each: object, urls: Mapping[tuple[str, str], str]) -> object:
    if not isinstance(each, dict):
        return each
    name, url = each.get("name"), each.get("url")
    if not isinstance(name, str) or not isinstance(url, str) or not is_masked(url):
        return each
    return each | {"url": urls.get((name, url), url)}
