"""A server in this process, whose inside tests can look at, and how to ask it."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import uvicorn

from stochloc.app.guard import Door
from stochloc.app.limits import LIMITS
from stochloc.app.server import create_app
from stochloc.app.serving import bind
from stochloc.app.shelf import Shelf
from stochloc.app.turns import Turns
from stochloc.tasks.runs import Run


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Here(NamedTuple):
    """A server in a thread of this process."""

    port: int
    turns: Turns
    shelf: Shelf

    def send(self, method, path, body=None, **headers) -> http.client.HTTPConnection:
        """Send a request; headers are named with underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            named = {"Content-Type": "application/json", **named}
        connection.request(method, path, body, named)
        return connection

    def ask(self, method, path, body=None, **headers) -> Answer:
        """Send a request and return the whole response."""
        with contextlib.closing(self.send(method, path, body, **headers)) as connection:
            response = connection.getresponse()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lowered, response.read())

    def post(self, path, body, **headers) -> Answer:
        return self.ask("POST", path, body, **headers)

    def events(self, path, body) -> list[tuple[str, Any]]:
        """Return all events of a stream, without what the clock says."""
        answer = self.post(path, body, Accept="text/event-stream")
        assert answer.status == 200, answer
        return [untimed(*event) for event in parsed(answer.body.decode().splitlines())]

    def wait_until_idle(self, most_s=10.0) -> None:
        until = time.monotonic() + most_s
        while self.turns.running:
            assert time.monotonic() < until, "a job goes on"
            time.sleep(0.005)


def parsed(lines) -> Iterator[tuple[str, Any]]:
    """Yield the events of the lines of a stream."""
    name = ""
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


def untimed(name, data):
    return name, {key: value for key, value in data.items() if key != "seconds"}


@contextlib.contextmanager
def here(*runs: Run, most: int = LIMITS.running, door: Door | None = None) -> Iterator[Here]:
    """Serve runs in a thread of this process."""
    turns, shelf = Turns(most), Shelf.of(runs)
    app = create_app(shelf, turns, door)
    with contextlib.closing(bind("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Here(bound.getsockname()[1], turns, shelf)
        finally:
            turns.leave_all()
            server.should_exit = True
            thread.join()
