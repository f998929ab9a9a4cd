"""What every route needs, handed in by create_app."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from hale.clock import Clock
from hale.ports import Platform, Store
from hale.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """The world of the API.

    `changing` is held while what is desired is read and changed: one at a time. `closing` ends streams,
    which would go on for ever.
    """

    store: Store
    platform: Platform
    settings: Settings
    clock: Clock
    down: Callable[[], None]
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    closing: asyncio.Event = field(default_factory=asyncio.Event)


async def _context(request: Request) -> Context:
    # Not a plain function: FastAPI calls those in threads, and requests would overtake each other there.
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context)]
