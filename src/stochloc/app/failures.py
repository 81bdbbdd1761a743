"""What a client is told when something is wrong: a status and one sentence, never a traceback."""

import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stochloc.app.turns import BusyError
from stochloc.tasks.out_of_memory import is_out_of_memory
from stochloc.terminal import messages
from stochloc.training.records import to_json

RETRY_AFTER_S = 2
FAILED = "The server failed at this request; its terminal says more."
_SENTENCES = {
    400: "The body is not JSON in UTF-8; send a JSON object.",
    404: "There is nothing at this address; GET / is the page and /docs describes the rest.",
    405: "This address does not take this method; /docs says which it takes.",
}


def json_response(
    values: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON values as a response; NaN and infinite numbers are null.

    Args:
        values: The values.
        status: Its status.
        headers: More headers.

    Returns:
        The response.
    """
    # Bytes of a byte-level model's text need not be UTF-8; JSON must be.
    body = to_json(values).encode("utf-8", "replace")
    return Response(body, status, headers, "application/json")


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that says no.

    Args:
        status: Its status.
        sentence: Why, and what to do.
        headers: More headers.

    Returns:
        The response.
    """
    return json_response({"detail": sentence}, status, headers)


def sentence_of(error: Exception) -> str:
    """Return what a client is told about an error, which goes to the terminal if it is our own.

    Args:
        error: What ended a request.

    Returns:
        One sentence.
    """
    if isinstance(error, ValueError):
        return " ".join(str(error).split())
    if isinstance(error, BusyError):
        return "As many requests are running as may run at once; try again in a moment."
    if is_out_of_memory(error):
        return "There is not enough memory for this request; ask for fewer or shorter texts."
    traceback.print_exception(error, file=messages())
    return FAILED


def answer_to(error: Exception) -> Response:
    """Return the response that tells of an error.

    Args:
        error: What ended a request before anything of its answer was sent.

    Returns:
        422 for what the client asked, 429 for too many requests, 503 where memory does not
        suffice, 500 for errors of our own.
    """
    again = {"Retry-After": str(RETRY_AFTER_S)}
    if isinstance(error, ValueError):
        return refusal(422, sentence_of(error))
    if isinstance(error, BusyError):
        return refusal(429, sentence_of(error), again)
    if is_out_of_memory(error):
        return refusal(503, sentence_of(error), again)
    return refusal(500, sentence_of(error))


def install(app: FastAPI) -> None:
    """Make an app answer every error with one sentence.

    Args:
        app: The app.
    """
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    # The server itself writes such an error to the terminal.
    app.add_exception_handler(Exception, lambda _, __: refusal(500, FAILED))


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "model_attributes_type" and first["loc"] == ("body",):
        return refusal(422, "Send a JSON object, with the header Content-Type: application/json.")
    if first["type"] == "json_invalid":
        return refusal(422, "The body is not JSON; send a JSON object.")
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])[:60]
        return refusal(422, f"There is no setting {name!r} here; /docs lists those there are.")
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "The body"
    given = first.get("input")
    shown = f", not {str(given)[:60]!r}" if isinstance(given, str | int | float) else ""
    reason = str(first["msg"]).removeprefix("Value error, ")
    return refusal(422, f"{where}: {reason[:1].lower()}{reason[1:]}{shown}.")


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    phrase = _SENTENCES.get(status, f"{HTTPStatus(status).phrase}: {error.detail}.")
    return refusal(status, phrase, error.headers)
