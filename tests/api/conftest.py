"""A whole API on the memory implementations."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from hale.api.app import create_app
from hale.clock import Clock
from hale.memory.platform import MemoryPlatform
from hale.memory.store import MemoryStore
from hale.settings import Settings

TOKEN = "a token"
EPOCH = 1_700_000_000.0


@dataclass
class Api:
    """The app, what is behind it, and short ways to call it."""

    app: FastAPI
    client: httpx.AsyncClient
    store: MemoryStore
    platform: MemoryPlatform
    clock: Clock
    downs: list[str] = field(default_factory=list)

    async def get(self, path: str, **query: object) -> Any:
        return self._answer(await self.client.get(path, params=_texts(query)))

    async def post(self, path: str, body: object = None) -> Any:
        return self._answer(await self.client.post(path, json={} if body is None else body))

    async def put(self, path: str, body: object) -> Any:
        return self._answer(await self.client.put(path, json=body))

    async def patch(self, path: str, body: object) -> Any:
        return self._answer(await self.client.patch(path, json=body))

    async def delete(self, path: str) -> Any:
        return self._answer(await self.client.delete(path))

    async def apply(self, name: str = "web", *, project: str = "default", **config: object) -> str:
        """The id of the deployment, created or updated."""
        answer = await self.post("/v1/deployments", {"projectId": project, "config": spec(name, **config)})
        return str(answer["deploymentId"])

    async def refused(self, method: str, path: str, body: object = None, **query: object) -> "Refusal":
        answer = await self.client.request(method, path, json=body, params=_texts(query))
        return Refusal.of(answer)

    @staticmethod
    def _answer(answer: httpx.Response) -> Any:
        assert answer.status_code in (200, 202), answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()


@dataclass(frozen=True)
class Refusal:
    """An error in the one shape that strict clients can read."""

    status: int
    code: str
    message: str
    issues: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: httpx.Response) -> "Refusal":
        body = answer.json()
        assert set(body) - {"issues"} == {"code", "message"}
        assert body["code"] in CODES
        assert answer.status_code == CODES[body["code"]]
        assert isinstance(body["message"], str)
        issues = body.get("issues", [])
        assert all(set(issue) == {"message"} for issue in issues)
        return cls(answer.status_code, body["code"], body["message"], tuple(i["message"] for i in issues))


CODES = {
    "PARSE_ERROR": 400,
    "BAD_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "NOT_FOUND": 404,
    "METHOD_NOT_SUPPORTED": 405,
    "TIMEOUT": 408,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "INTERNAL_SERVER_ERROR": 500,
}


def spec(name: str = "web", **changes: object) -> dict[str, Any]:
    """A valid spec; `replicas` goes where it belongs, None takes a key away."""
    resources = {"machineType": "C4", "ports": [8000], "replicas": changes.pop("replicas", 2)}
    document = {
        "apiVersion": "v1",
        "name": name,
        "command": ["serve"],
        "enabled": True,
        "resources": resources,
    }
    return {key: value for key, value in (document | changes).items() if value is not None}


def _texts(query: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    store = MemoryStore()
    platform = MemoryPlatform(store)
    clock = Clock(EPOCH, asyncio.get_running_loop().time())
    downs: list[str] = []
    app = create_app(
        store=store,
        platform=platform,
        settings=Settings(),
        clock=clock,
        token=TOKEN,
        down=lambda: downs.append("down"),
    )
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hale", headers=headers) as client:
        yield Api(app, client, store, platform, clock, downs)
