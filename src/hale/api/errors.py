"""Every error in one shape: {code, message[, issues: [{message}]]}, and nothing else.

Gradient's own clients parse it strictly: another key, or a code that is not in CODES, is their crash.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from hale.errors import HaleError, RefusedError
from hale.spec.problems import SpecError

CODES: Mapping[str, int] = {
    "PARSE_ERROR": 400,
    "BAD_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_SUPPORTED": 405,
    "TIMEOUT": 408,
    "CONFLICT": 409,
    "PRECONDITION_FAILED": 412,
    "PAYLOAD_TOO_LARGE": 413,
    "TOO_MANY_REQUESTS": 429,
    "CLIENT_CLOSED_REQUEST": 499,
    "INTERNAL_SERVER_ERROR": 500,
}
_CODE_OF_STATUS = {status: code for code, status in CODES.items() if code != "PARSE_ERROR"}


class Issue(BaseModel):
    """One of several things that are wrong with a request."""

    message: str


class ErrorBody(BaseModel):
    """What went wrong, for machines (`code`) and for people."""

    code: str
    message: str
    issues: list[Issue] | None = None


class ProblemsError(RefusedError):
    """`doing` can't be done for the problems, all of which are told: one in the sentence, more below it."""

    def __init__(self, doing: str, problems: Sequence[str]) -> None:
        one = len(problems) == 1
        told = problems[0] if one else "\n  ".join([f"{len(problems)} problems", *problems])
        super().__init__(f"cannot {doing}: {told}")
        self.problems = tuple(problems)


def error_response(
    code: str, message: str, *, issues: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body: dict[str, object] = {"code": code, "message": message}
    if issues:
        body["issues"] = [{"message": issue} for issue in issues]
    return JSONResponse(body, status_code=CODES[code], headers=headers)


def install(app: FastAPI, routes: Mapping[str, Sequence[BaseRoute]]) -> None:
    """Answer every error of ours and of the framework in the one shape; `routes` are the app's, by prefix."""
    app.add_exception_handler(HaleError, _ours)
    app.add_exception_handler(HTTPException, partial(_http, routes))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HaleError)  # noqa: S101  by registration
    issues = (
        [str(problem) for problem in error.problems] if isinstance(error, SpecError | ProblemsError) else []
    )
    message = f"{error.message} (hint: {error.hint})" if error.hint else error.message
    return error_response(error.code, message, issues=issues)


async def _http(
    routes: Mapping[str, Sequence[BaseRoute]], request: Request, error: Exception
) -> JSONResponse:
    """404, 405, 413: what Starlette itself says no to."""
    assert isinstance(error, HTTPException)  # noqa: S101  by registration
    code = _CODE_OF_STATUS.get(error.status_code, "BAD_REQUEST")
    message = {
        "NOT_FOUND": f"cannot find {request.url.path}: the API has no such path",
        "METHOD_NOT_SUPPORTED": f"cannot {request.method} {request.url.path}: it has no such method",
    }.get(code, error.detail)
    headers = dict(error.headers or {})
    if code == "METHOD_NOT_SUPPORTED":
        headers["Allow"] = ", ".join(_methods(routes, request.url.path))
    return error_response(code, message, headers=headers)


def _methods(routes: Mapping[str, Sequence[BaseRoute]], path: str) -> Sequence[str]:
    """What can be done with the path. Starlette would name the methods of one of its routes only."""
    found: set[str] = set()
    for prefix, every in routes.items():
        for route in every:
            if isinstance(route, APIRoute) and route.path_regex.match(path.removeprefix(prefix)):
                found |= route.methods or set()
    return sorted(found)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  by registration
    wrong = error.errors()
    doing = f"cannot {request.method} {request.url.path}"
    if wrong and wrong[0]["type"] == "json_invalid":
        return error_response("PARSE_ERROR", f"{doing}: the body is not JSON: {wrong[0]['ctx']['error']}")
    issues = [_issue(each["loc"], each["msg"]) for each in wrong]
    return error_response("BAD_REQUEST", f"{doing}: {'; '.join(issues)}", issues=issues)


def _issue(place: Sequence[str | int], message: str) -> str:
    """`limit: input should be less than or equal to 120`."""
    where = ".".join(str(part) for part in place[1:]) or str(place[0])
    return f"{where}: {message[:1].lower()}{message[1:]}"


async def _unexpected(request: Request, _: Exception) -> JSONResponse:
    """A mistake in hale; Starlette raises it on, and the server logs the trace."""
    message = f"cannot {request.method} {request.url.path}: a mistake in hale; its log has the trace"
    return error_response("INTERNAL_SERVER_ERROR", message)
