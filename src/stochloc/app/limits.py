"""What one request may ask for, and how many may run at once.

Each bound is on something that memory or the time of a single denoiser call grows with, so that a
server with all of its places taken still fits into memory and still answers.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Limits:
    """The largest sizes of requests.

    Attributes:
        length: Tokens of a text.
        steps: Steps of a walk.
        texts: Texts drawn, or lines scored, by one request.
        draws: Walks of an infilling for every combination of lengths, and draws of a score.
        rounds: Corrector rounds after every step.
        edits: Edits of a walk.
        characters: Characters of a text that is given.
        body: Bytes of the body of a request.
        running: Requests that compute at the same time.
    """

    length: int = 512
    steps: int = 1024
    texts: int = 16
    draws: int = 64
    rounds: int = 8
    edits: int = 64
    characters: int = 4096
    body: int = 256 * 1024
    running: int = 64

    def to_dict(self) -> dict[str, int]:
        """Return the limits as JSON values."""
        return asdict(self)


LIMITS = Limits()
