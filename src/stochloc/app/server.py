"""The app: the addresses of the page and of the HTTP interface."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from stochloc.app import failures, reference
from stochloc.app.answers import correct_events, infill_events, sample_events, score_events
from stochloc.app.bodies import Body, CorrectBody, InfillBody, SampleBody, ScoreBody, WalkBody
from stochloc.app.events import MEDIA_TYPE, Event
from stochloc.app.guard import Door, Guard
from stochloc.app.kept import KeptStates
from stochloc.app.limits import LIMITS
from stochloc.app.shelf import Served, Shelf
from stochloc.app.steering import SteeredWalk
from stochloc.app.streams import streamed, whole
from stochloc.app.turns import Turns
from stochloc.version import __version__

STATIC = Path(str(files("stochloc.app") / "static"))


def create_app(shelf: Shelf, turns: Turns | None = None, door: Door | None = None) -> FastAPI:
    """Return the app that serves some models.

    Args:
        shelf: The models.
        turns: Who computes; a new one where absent.
        door: Who may ask; by default who asks this machine under its own name.

    Returns:
        An ASGI app.
    """
    app = FastAPI(
        title="stochloc", version=__version__, docs_url=None, redoc_url=None,
        description="Walks through signal-to-noise ratios, and what the command line answers.",
        responses=reference.REFUSALS,
    )  # fmt: skip
    turns = turns or Turns(LIMITS.running)
    for served in shelf.models.values():
        turns.share(served.run.model)
    failures.install(app)
    app.add_middleware(Guard, door=door or Door())
    _add_pages(app)
    _add_interface(app, shelf, turns)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference.page(app.openapi()))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _add_interface(app: FastAPI, shelf: Shelf, turns: Turns) -> None:
    kept = KeptStates()

    @app.get("/api/models", summary="The models that are served, and the limits of requests.")
    async def models() -> dict[str, Any]:
        return {**shelf.to_dict(), "running": turns.running}

    @app.post("/api/walk", summary="A walk, step by step, and how it is steered.")
    async def walk(request: Request, body: WalkBody) -> Response:
        def events() -> Iterator[Event]:
            yield from SteeredWalk.of(shelf.find(body.model), body, kept).events()

        return await streamed(request, turns, events, is_large=False)

    async def answer(
        request: Request, body: Body, of: Callable[[Served], Iterator[Event]]
    ) -> Response:
        def events() -> Iterator[Event]:
            yield from of(shelf.find(body.model))

        wants_stream = MEDIA_TYPE in request.headers.get("accept", "")
        return await (streamed if wants_stream else whole)(request, turns, events, is_large=True)

    @app.post("/api/sample", summary="Texts drawn from a model: stochloc sample --json.")
    async def sample(request: Request, body: SampleBody) -> Response:
        return await answer(request, body, lambda served: sample_events(served, body))

    @app.post("/api/score", summary="The cost of texts: stochloc score --tokens --json.")
    async def score(request: Request, body: ScoreBody) -> Response:
        return await answer(request, body, lambda served: score_events(served, body))

    @app.post("/api/infill", summary="The blanks of a text filled: stochloc infill --json.")
    async def infill(request: Request, body: InfillBody) -> Response:
        return await answer(request, body, lambda served: infill_events(served, body))

    @app.post("/api/correct", summary="A text corrected: stochloc correct --json.")
    async def correct(request: Request, body: CorrectBody) -> Response:
        return await answer(request, body, lambda served: correct_events(served, body))
