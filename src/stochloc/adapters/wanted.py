"""A text that a task of the harness wants: what it follows, how long it is, and where it ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A temperature at which the most likely token is drawn, to the resolution of float32.
GREEDY = 1e-3
MOST_NEW_TOKENS = 256


@dataclass(frozen=True)
class Wanted:
    """A text to draw.

    Attributes:
        context: The tokens before it, as many of the last as there is room for.
        num_new: Tokens to draw.
        until: Texts that end it, which are not part of it.
        temperature: Of the draws.
        top_p: Of the draws.
    """

    context: tuple[int, ...]
    num_new: int
    until: tuple[str, ...] = ()
    temperature: float = GREEDY
    top_p: float = 1.0

    @classmethod
    def of(cls, context: tuple[int, ...], told: Mapping[str, Any], window: int) -> "Wanted":
        """Return what a task asks for.

        Args:
            context: All tokens before it.
            told: The task's `until`, `max_gen_toks`, `do_sample`, `temperature` and `top_p`.
            window: The most tokens of context and text together; the context gets half of it, or
                more where the text leaves it more.

        Returns:
            The wanted text.

        Raises:
            ValueError: It wants no token.
        """
        until = told.get("until") or ()
        stops = (until,) if isinstance(until, str) else tuple(until)
        most = told.get("max_gen_toks", MOST_NEW_TOKENS)
        if most < 1:
            raise ValueError(f"A text has at least one token, not max_gen_toks {most}.")
        num_new = min(most, max(1, window - min(len(context), window // 2)))
        shown = min(len(context), window - num_new)
        heat = told.get("temperature") if told.get("do_sample") else None
        return cls(
            context[len(context) - shown :],
            num_new,
            tuple(stop for stop in stops if stop),
            max(GREEDY, 1.0 if told.get("do_sample") and heat is None else float(heat or 0.0)),
            float(told.get("top_p") or 1.0) if told.get("do_sample") else 1.0,
        )

    @property
    def length(self) -> int:
        """Tokens of context and text."""
        return len(self.context) + self.num_new

    @property
    def kind(self) -> tuple[Any, ...]:
        """What texts that are drawn in one batch have in common."""
        return len(self.context), self.num_new, self.temperature, self.top_p

    def cut(self, text: str) -> str:
        """Return a drawn text up to where it ends.

        Args:
            text: The new tokens' text.

        Returns:
            What stands before the first of the texts that end it.
        """
        ends = [place for stop in self.until if (place := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text
