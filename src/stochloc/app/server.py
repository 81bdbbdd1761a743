"""The app: the addresses of the page and of the HTTP interface."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from stochloc.app import failures
from stochloc.app.bodies import WalkBody
from stochloc.app.events import MEDIA_TYPE, Event
from stochloc.app.failures import json_response, sentence_of
from stochloc.app.kept import KeptStates
from stochloc.app.limits import LIMITS
from stochloc.app.shelf import Shelf
from stochloc.app.steering import SteeredWalk
from stochloc.app.turns import Ended, Job, Turns

STATIC = Path(str(files("stochloc.app") / "static"))
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def create_app(shelf: Shelf, turns: Turns | None = None) -> FastAPI:
    """Return the app that serves some models.

    Args:
        shelf: The models.
        turns: Who computes.

    Returns:
        An ASGI app.
    """
    app = FastAPI(title="stochloc", docs_url=None, redoc_url=None)
    turns = turns or Turns(LIMITS.running)
    for served in shelf.models.values():
        turns.share(served.run.model)
    failures.install(app)
    kept = KeptStates()

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/models")
    def models() -> Response:
        return json_response(shelf.to_dict())

    @app.post("/api/walk")
    async def walk(body: WalkBody) -> Response:
        def events() -> Iterator[Event]:
            yield from SteeredWalk.of(shelf.find(body.model), body, kept).events()

        return await stream(turns, events)

    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    return app


async def stream(turns: Turns, events: Callable[[], Iterator[Event]]) -> Response:
    """Return a response of events as they are computed.

    Args:
        turns: Who computes.
        events: Computes them.

    Returns:
        The response; an error before the first event has a status of its own, a later one is an
        event.

    Raises:
        BusyError: As many requests are running as may run.
        Exception: What went wrong before the first event.
    """
    job = turns.start(lambda job: _emit(job, events()))
    try:
        first = await job.next()
    except BaseException:
        job.leave()
        raise
    return StreamingResponse(_encoded(job, first), 200, STREAM_HEADERS, MEDIA_TYPE)


def _emit(job: Job, events: Iterator[Event]) -> None:
    started_s = time.monotonic()
    with torch.no_grad():
        for name, data in events:
            seconds: dict[str, Any] = {"seconds": round(time.monotonic() - started_s, 4)}
            job.emit(Event(name, {**data, **seconds}).encode())


async def _encoded(job: Job, first: bytes) -> AsyncIterator[bytes]:
    try:
        yield first
        with suppress(Ended):
            while True:
                yield await job.next()
    except Exception as error:
        yield Event("error", {"detail": sentence_of(error)}).encode()
    finally:
        job.leave()
