"""Conversation with the Hugging Face hub: how long it may take, and where downloads are kept.

Its client reports every request that it tries again. What users are told is one sentence at the
end, so while the hub is asked the client is silent.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from stochloc.data.token_cache import home_folder

Answer = TypeVar("Answer")

ANSWER_S = 10.0


@contextmanager
def silent_client() -> Iterator[None]:
    """Keep the hub's client from reporting requests that it tries again.

    Only what it writes to stderr itself is left out: handlers that a program has added hear it.

    Yields:
        Nothing; then it reports as before.
    """
    handlers = tuple(logging.getLogger("huggingface_hub").handlers)

    def passes(record: logging.LogRecord) -> bool:
        return False

    for handler in handlers:
        handler.addFilter(passes)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)


def within(limit_s: float, ask: Callable[[], Answer]) -> Answer:
    """Return the answer to a question, waited for a limited time.

    Even looking up the name of a host may take long, without a limit of its own.

    Args:
        limit_s: how long to wait, in seconds.
        ask: asks, in a thread of its own, which is abandoned after that time.

    Returns:
        What `ask` returns.

    Raises:
        TimeoutError: there is no answer in time.
        Exception: what `ask` raises.
    """
    answers: queue.SimpleQueue[tuple[Answer] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            # As long as it asks, which may be longer than anybody waits.
            with silent_client():
                answers.put((ask(),))
        except Exception as error:
            answers.put(error)

    # A daemon thread, so that the program can end while it still waits.
    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {limit_s:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer[0]


def hub_cache() -> Path | None:
    """Return where downloads are kept if there is no home directory; None: where the hub's are."""
    if any(os.environ.get(name) for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")):
        return None
    try:
        Path.home()
    except RuntimeError:
        return home_folder() / "hub"
    return None
