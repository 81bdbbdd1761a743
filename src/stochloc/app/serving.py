"""Serving on this machine: a free port, a server that ends when it is told to, a browser."""

import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from threading import Thread
from types import FrameType
from urllib.parse import urlencode

import torch
import uvicorn
from fastapi import FastAPI

FIRST_PORT, PORTS_TRIED = 7860, 50
MOST_THREADS = 8


def bind(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: The address.
        port: The port; the first free one from 7860 when absent.

    Returns:
        The socket.

    Raises:
        ValueError: The port is taken, or the address is not one of this machine.
    """
    if port is not None and not 0 <= port < 2**16:
        raise ValueError(f"A port is a number from 0 to {2**16 - 1}, not {port}.")
    ports = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if port is None else [port]
    reason = OSError()
    for number in ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, number))
            bound.listen()
            return bound
        except OSError as error:
            bound.close()
            reason = error
    raise ValueError(
        f"{host}:{ports[0]} cannot be served ({reason.strerror or reason}); give another --port or "
        "--host."
    ) from reason


def address_of(host: str, bound: socket.socket, token: str | None) -> str:
    """Return the address of the page.

    Args:
        host: The address that is served.
        bound: Where the server listens.
        token: What a client must know; None for nothing.

    Returns:
        An address that opens on this machine.
    """
    # An address that stands for all of this machine's is none to go to.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{name}]" if ":" in name else name
    query = "" if token is None else f"?{urlencode({'token': token})}"
    return f"http://{shown}:{bound.getsockname()[1]}/{query}"


class _Server(uvicorn.Server):
    """A server that says when it is told to stop."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, as a signal says."""
        self.on_stop()
        super().handle_exit(sig, frame)


def run(app: FastAPI, bound: socket.socket, on_stop: Callable[[], None]) -> None:
    """Serve until the process is interrupted.

    Args:
        app: The app.
        bound: Where it listens.
        on_stop: Called when the server is told to stop, before it waits for open connections.

    Raises:
        KeyboardInterrupt: The user stopped it.
    """

    # Every request computes in a thread of its own, for which torch keeps helpers of its own.
    torch.set_num_threads(min(torch.get_num_threads(), MOST_THREADS))
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    _Server(config, on_stop).run(sockets=[bound])


def open_browser(address: str) -> None:
    """Open the page in the user's browser, if there is a screen.

    Args:
        address: The page's address.
    """
    is_mute = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if not is_mute:
        # Some browsers return only when they are closed.
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
