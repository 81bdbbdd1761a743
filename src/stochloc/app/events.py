"""Server-sent events: a name and a JSON object, in a text that is written as it comes."""

from typing import Any, NamedTuple

from stochloc.training.records import to_json

MEDIA_TYPE = "text/event-stream"


class Event(NamedTuple):
    """A message to a client.

    Attributes:
        name: What it is about.
        data: JSON values.
    """

    name: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """Return the event as it is sent; JSON has no line breaks of its own."""
        return f"event: {self.name}\ndata: {to_json(self.data)}\n\n".encode()
