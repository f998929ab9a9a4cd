"""What has begun is seen through, or a caller who lost patience would leave a replica nobody knows."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


async def seen_through(
    spawn: Callable[[Coroutine[None, None, None]], object], work: Coroutine[None, None, T]
) -> T:
    """What the work comes to. It runs in a task of `spawn`'s, and goes on when the caller is cancelled."""
    begun: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    spawn(_tell(work, begun))
    return await asyncio.shield(begun)


async def _tell(work: Coroutine[None, None, T], begun: asyncio.Future[T]) -> None:
    try:
        begun.set_result(await work)
    except Exception as error:
        begun.set_exception(error)
        begun.exception()  # the caller's to judge, who may have gone
    finally:
        begun.cancel()
