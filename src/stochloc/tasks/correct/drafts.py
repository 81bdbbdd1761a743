"""A text on its way to a corrected one: what was read, and the edits made so far.

A draft is told by what became of every place that was read and of the gaps between them, so that
edits keep their places however the length of the text changes. No place is edited twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from stochloc.core import UNKNOWN, State
from stochloc.tasks.correct.errors import Errors, Text
from stochloc.tasks.correct.reading import Reading


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        place: The first place that it changes, or that before which it inserts.
        tokens: What these places hold afterwards; -1 where nothing.
        inserted: The token that it inserts; -1 for none.
    """

    place: int
    tokens: Text
    inserted: int = UNKNOWN

    @property
    def right(self) -> Text:
        """The tokens that it leaves, in their order."""
        return tuple(token for token in (self.inserted, *self.tokens) if token != UNKNOWN)


@dataclass(frozen=True, eq=False)
class Draft:
    """A text on the way, told by what became of every place that was read.

    Attributes:
        soft: The soft mask of what was read, of one sequence.
        levels: g of every place, ∞ where it is certain or not asked about.
        tokens: As in `Decision`.
        probs: As in `Decision`.
        inserted: As in `Decision`.
        inserted_probs: As in `Decision`.
        is_edited: Which places have been edited.
        errors: What edits cost.
    """

    soft: State
    levels: tuple[float, ...]
    tokens: Text
    probs: tuple[float, ...]
    inserted: Text
    inserted_probs: tuple[float, ...]
    is_edited: tuple[bool, ...]
    errors: Errors

    @classmethod
    def of(cls, reading: Reading, row: int) -> "Draft":
        """Return one text as it was read."""
        state, read = reading.state, reading.tokens[row]
        only = slice(row, row + 1)
        soft = State(state.z[only], state.known[only], state.snr[only])
        length = len(read)
        # A soft mask is g e_s, so its length is g; that of a certain token is not kept.
        levels = soft.z[0].norm(dim=-1).masked_fill(soft.is_known[0], torch.inf)
        levels = levels.masked_fill(~reading.is_asked[row], torch.inf)
        return cls(
            soft,
            tuple(levels.tolist()),
            tuple(read.tolist()),
            (1.0,) * length,
            (UNKNOWN,) * (length + 1),
            (0.0,) * (length + 1),
            (False,) * length,
            reading.errors,
        )

    def is_free(self, place: int) -> bool:
        """Return whether a place may be edited."""
        inside = 0 <= place < len(self.tokens)
        return inside and not self.is_edited[place] and self.levels[place] < torch.inf

    def is_empty(self, gap: int) -> bool:
        """Return whether nothing was inserted before a place yet."""
        return self.inserted[gap] == UNKNOWN

    def cost(self, edit: Edit) -> float:
        """Return what an edit of free places costs, in nats.

        Of several places the largest g counts, in a gap the smaller one of both sides.
        """
        begin, end = edit.place, edit.place + len(edit.tokens)
        touched, around = self.levels[begin:end], self.levels[max(0, begin - 1) : begin + 1]
        level = max(touched) if touched else min(around)
        if level == torch.inf:
            return level
        return self.errors.cost(self.tokens[begin:end], edit.right, level)

    def edited(self, edit: Edit, probability: float) -> "Draft":
        """Return the draft after an edit."""
        begin, end = edit.place, edit.place + len(edit.tokens)
        num = end - begin
        draft = replace(
            self,
            tokens=(*self.tokens[:begin], *edit.tokens, *self.tokens[end:]),
            probs=(*self.probs[:begin], *(probability,) * num, *self.probs[end:]),
            is_edited=(*self.is_edited[:begin], *(True,) * num, *self.is_edited[end:]),
        )
        if edit.inserted == UNKNOWN:
            return draft
        inserted, probs = list(draft.inserted), list(draft.inserted_probs)
        inserted[begin], probs[begin] = edit.inserted, probability
        return replace(draft, inserted=tuple(inserted), inserted_probs=tuple(probs))

    def text(self) -> Text:
        """Return the tokens of the text."""
        return tuple(token for _, token, _ in self._pieces())

    def origins(self) -> list[int]:
        """Return the place of every token of the text; that of an inserted one is before it."""
        return [place for place, _, _ in self._pieces()]

    def state(self) -> State:
        """Return the soft mask of the text: what was edited is known."""
        pieces = list(self._pieces())
        device = self.soft.z.device
        at = torch.tensor([place for place, _, _ in pieces], device=device)
        at = at.clamp_max(len(self.tokens) - 1)
        tokens = torch.tensor([[token for _, token, _ in pieces]], device=device)
        is_new = torch.tensor([[new for _, _, new in pieces]], device=device)
        soft = self.soft
        return State(soft.z[:, at], soft.known[:, at], soft.snr[:, at]).reveal(tokens, is_new)

    def _pieces(self) -> Iterator[tuple[int, int, bool]]:
        """Yield place and token of the text in turn, and whether an edit put it there."""
        for place, lost in enumerate(self.inserted):
            if lost != UNKNOWN:
                yield place, lost, True
            if place < len(self.tokens) and self.tokens[place] != UNKNOWN:
                yield place, self.tokens[place], self.is_edited[place]
