"""From jobs to responses: events as they come, or the last one alone; a client that leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import torch
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from stochloc.app.events import MEDIA_TYPE, Event
from stochloc.app.failures import answer_to, json_response, refusal, sentence_of
from stochloc.app.turns import ClientLeft, Ended, Job, Turns

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
Work = Callable[[], Iterator[Event]]


async def streamed(request: Request, turns: Turns, work: Work, is_large: bool) -> Response:
    """Return a response of events as they are computed.

    Args:
        request: Whose client may leave.
        turns: Who computes.
        work: Computes the events.
        is_large: Whether its calls are large (`Turns.start`).

    Returns:
        The response; an error before the first event has a status of its own, a later one is an
        event.
    """
    try:
        job = turns.start(lambda job: _emit(job, work()), is_large)
        async with _Watched(request, job):
            first: Event = await job.next()
    except ClientLeft:
        return _gone()
    except Exception as error:
        return answer_to(error)
    return StreamingResponse(_encoded(job, first), 200, HEADERS, MEDIA_TYPE)


async def whole(request: Request, turns: Turns, work: Work, is_large: bool) -> Response:
    """Return the last event as JSON.

    Args:
        request: Whose client may leave.
        turns: Who computes.
        work: Computes the events.
        is_large: As in `streamed`.

    Returns:
        The response, or what went wrong.
    """
    last = Event("", {})
    try:
        job = turns.start(lambda job: _emit(job, work()), is_large)
        async with _Watched(request, job):
            while True:
                last = await job.next()
    except Ended:
        return json_response(last.data)
    except ClientLeft:
        return _gone()
    except Exception as error:
        return answer_to(error)


class _Watched:
    """While it is entered, a client that goes away ends its job."""

    def __init__(self, request: Request, job: Job) -> None:
        self.request, self.job = request, job

    async def __aenter__(self) -> None:
        self.task = asyncio.create_task(self._watch())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        if kind is not None:
            self.job.leave()

    async def _watch(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.job.leave()


def _emit(job: Job, events: Iterator[Event]) -> None:
    started_s = time.monotonic()
    with torch.no_grad():
        for name, data in events:
            job.emit(Event(name, {"seconds": round(time.monotonic() - started_s, 4), **data}))


async def _encoded(job: Job, first: Event) -> AsyncIterator[bytes]:
    try:
        yield first.encode()
        with suppress(Ended):
            while True:
                event: Event = await job.next()
                yield event.encode()
    except Exception as error:
        yield Event("error", {"detail": sentence_of(error)}).encode()
    except ClientLeft:
        yield Event("error", {"detail": "The server is stopping."}).encode()
    finally:
        job.leave()


def _gone() -> Response:
    return refusal(499, "The client has left.")
