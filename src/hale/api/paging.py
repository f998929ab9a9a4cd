"""Gradient's pages: {items, hasMore, nextPage}, and `?after=<nextPage>` for the next one.

A cursor says where in the order the page ended, so that it holds when the item there is deleted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from fastapi import Depends, Header, Query

from hale.api.models import Answer
from hale.errors import RefusedError

LIMIT = 120
_PSPACE = "paperspace-cli"

T = TypeVar("T")
Key = tuple[float, str]
"""The place of an item in its list."""


class Page(Answer, Generic[T]):
    """Some of the items of a list; `nextPage` is there when there are more."""

    items: list[T]
    has_more: bool
    next_page: str | None = None


@dataclass(frozen=True, slots=True)
class Paging:
    """What part of a list is asked for."""

    after: str | None
    limit: int
    descending: bool
    ends_with_null: bool = False


async def _paging(
    after: Annotated[str | None, Query(description="The `nextPage` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT)] = LIMIT,
    order_by: Annotated[Literal["dtCreated"], Query(alias="orderBy")] = "dtCreated",
    order: Literal["asc", "desc"] = "desc",
    client: Annotated[str, Header(alias="x-client", include_in_schema=False)] = "",
) -> Paging:
    return Paging(after or None, limit, order == "desc", ends_with_null=client == _PSPACE)


InPages = Annotated[Paging, Depends(_paging)]


def part_of(items: Sequence[T], paging: Paging, key: Callable[[T], Key]) -> tuple[list[T], str | None]:
    """The items of one page, and the cursor of the next one if there is one."""
    ordered = sorted(items, key=key, reverse=paging.descending)
    if paging.after is not None:
        place = _place(paging.after)
        ordered = [item for item in ordered if _beyond(key(item), place, descending=paging.descending)]
    found = ordered[: paging.limit]
    more = len(ordered) > len(found)
    return found, _cursor(key(found[-1])) if more else None


def page(items: list[T], following: str | None, paging: Paging) -> Page[T]:
    """A page without `nextPage` when there is none: Gradient's schema has no null there.

    `pspace` shows the fields it is asked for (`-F`) only of a page that has the key.
    """
    if following is None and not paging.ends_with_null:
        return Page(items=items, has_more=False)
    return Page(items=items, has_more=following is not None, next_page=following)


def bad_cursor(after: str) -> RefusedError:
    return RefusedError(f"cannot go on after {after[:100]!r}: it is not the nextPage of a page of this list")


def _beyond(key: Key, place: Key, *, descending: bool) -> bool:
    return key < place if descending else key > place


def _cursor(key: Key) -> str:
    return f"{key[0]!r}_{key[1]}"


def _place(after: str) -> Key:
    number, mark, item_id = after.partition("_")
    try:
        if mark:
            return float(number), item_id
    except ValueError:
        pass
    raise bad_cursor(after)
