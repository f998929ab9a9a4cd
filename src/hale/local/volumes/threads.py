"""Threads for work on files that may take long: nothing else that the daemon does waits for one of these."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FILLING = ThreadPoolExecutor(4, "volumes")
REMOVING = ThreadPoolExecutor(1, "volumes-going")
"""One after another, so that no two remove the same."""


async def in_thread(
    threads: ThreadPoolExecutor, do: Callable[P, T], *arguments: P.args, **named: P.kwargs
) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, partial(do, *arguments, **named))
