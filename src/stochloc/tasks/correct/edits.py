"""Correcting by single edits, each resulting text weighed by its exact likelihood.

If a text x was read as s, Bayes' rule says `P(x|s) ∝ P(x) P(s|x)`. The model gives `P(x)` exactly,
from left to right, whatever the length of x; a two-sided one in a single call for a batch of texts.
The soft mask of a place is, in nats, the log-odds g of what was read there against any other
symbol, and an edit costs just that:

    log P(x|s) = log P(x) - Σ_edits g + const.

An edit replaces a token, leaves one out, inserts one or swaps two neighbours. Trying them all would
take V candidates for each place, so the posterior of all places, one call, says which are most
doubtful: where another token is most probable against the one read. Its most probable tokens are
the candidates there, and one more call, with a blank put into each gap beside these places, says
what could have been lost. Then all candidates are weighed, the best that do not touch each other
are made, and all begins again with the text as it is now, until no edit is probable enough.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, State, left_to_right
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.correct.reading import Decision, Reading

Text = tuple[int, ...]


@dataclass(frozen=True)
class LikelyEdits:
    """Correct by the edits that make the text most probable, its length included.

    Attributes:
        threshold: An edit is made if its probability, among all candidates near it and the text
            without it, exceeds this, in `[0, 1]`.
        num_places: Most doubtful places at which edits are tried in a round.
        num_tokens: Most probable tokens tried at each of them, and in the gaps beside it.
        num_rounds: Most rounds; each may make several edits, but only one near a place.
        reach: Edits less than this many places apart exclude each other within a round.
    """

    threshold: float
    num_places: int = 6
    num_tokens: int = 3
    num_rounds: int = 4
    reach: int = 8

    def __post_init__(self) -> None:
        if min(self.num_places, self.num_tokens, self.num_rounds, self.reach) < 1:
            raise ValueError(
                "Edits need at least one place, one token, one round and a reach of one, not "
                f"{self.num_places}, {self.num_tokens}, {self.num_rounds} and {self.reach}."
            )

    @property
    def keeps_places(self) -> bool:
        """Tokens are inserted and left out."""
        return False

    def decide(self, denoiser: Denoiser, reading: Reading) -> Decision:
        """Return the edited texts.

        Args:
            denoiser: Called twice a round for each text, and once for the candidates of each length
                if it is two-sided; any other is called for each of their tokens.
            reading: What was read, and its soft mask.

        Returns:
            The decision. Each probability of an edit is that among the candidates of its round,
            given the text as it then was; with exact likelihoods it is exact for a text in which
            at most one of these edits is due.
        """
        drafts, calls = [], 0
        for row in range(len(reading.tokens)):
            draft, more = self._edited(denoiser, _Draft.of(reading, row))
            drafts.append(draft)
            calls += more
        like, probs = reading.tokens, reading.state.z.new_tensor
        return Decision(
            like.new_tensor([draft.tokens for draft in drafts]),
            probs([draft.probs for draft in drafts]),
            like.new_tensor([draft.inserted for draft in drafts]),
            probs([draft.inserted_probs for draft in drafts]),
            calls,
        )

    def _edited(self, denoiser: Denoiser, draft: "_Draft") -> tuple["_Draft", int]:
        calls = 0
        for number in range(self.num_rounds):
            proposals = self._proposals(denoiser, draft)
            calls += proposals.calls
            if number == 0:
                draft = replace(draft, probs=proposals.probs)
            weighed = _weigh(denoiser, draft, proposals.edits)
            calls += weighed.calls
            chosen = self._choose(weighed)
            for edit, probability in chosen:
                draft = draft.edited(edit, probability)
            if not chosen:
                break
        return draft, calls

    def _proposals(self, denoiser: Denoiser, draft: "_Draft") -> "_Proposals":
        state = draft.state()
        posterior = denoiser(state)
        log_probs = posterior.log_probs_of(0, denoiser.codebook.vocabulary_size)[0]
        text = torch.tensor(draft.text(), device=log_probs.device)
        own = log_probs.gather(-1, text[:, None])
        others = log_probs.scatter(-1, text[:, None], -torch.inf)
        doubts = (others.amax(-1) - own[:, 0]).tolist()
        origins = draft.origins()
        probs = list(draft.probs)
        for place, value in zip(origins, own[:, 0].exp().tolist(), strict=True):
            probs[place] = value
        where = {place: at for at, place in enumerate(origins) if draft.is_free(place)}
        places = sorted(where, key=lambda place: -doubts[where[place]])[: self.num_places]
        edits = []
        likely = others.topk(min(self.num_tokens, others.shape[-1] - 1)).indices.tolist()
        for place in places:
            edits += [_Edit(place, (token,)) for token in likely[where[place]]]
            edits.append(_Edit(place, (UNKNOWN,)))
            for first in (place - 1, place):
                if draft.is_free(first) and draft.is_free(first + 1):
                    pair = draft.tokens[first : first + 2]
                    edits.append(_Edit(first, pair[::-1]))
        gaps = sorted({gap for place in places for gap in (place, place + 1)})
        gaps = [gap for gap in gaps if draft.inserted[gap] == UNKNOWN]
        if not gaps:
            return _Proposals(edits, tuple(probs), posterior.calls)
        # Where a blank goes: before the first token that is not before the gap.
        at = [sum(origin < gap for origin in origins) for gap in gaps]
        blank = denoiser(_with_blanks(state, at))
        lost = blank.log_probs_of(0, denoiser.codebook.vocabulary_size)
        for row, (gap, place) in enumerate(zip(gaps, at, strict=True)):
            tokens = lost[row, place].topk(min(self.num_tokens, lost.shape[-1])).indices.tolist()
            edits += [_Edit(gap, (), token) for token in tokens]
        return _Proposals(edits, tuple(probs), posterior.calls + blank.calls)

    def _choose(self, weighed: "_Weighed") -> list[tuple["_Edit", float]]:
        """Return the probable edits, the best first, none near a better one."""
        if not weighed.edits:
            return []
        places = torch.tensor([edit.place for edit in weighed.edits])
        scores = torch.tensor(weighed.scores, dtype=torch.float64)
        is_near = (places[:, None] - places).abs() < self.reach
        rivals = torch.where(is_near, scores, -torch.inf).logsumexp(-1)
        probs = (scores - torch.logaddexp(rivals, torch.zeros_like(rivals))).exp()
        chosen: list[int] = []
        for best in scores.argsort(descending=True).tolist():
            if scores[best] <= 0:
                break
            if any(bool(is_near[best, other]) for other in chosen):
                continue
            if probs[best] > self.threshold:
                chosen.append(best)
        return [(weighed.edits[best], float(probs[best])) for best in chosen]


@dataclass(frozen=True)
class _Edit:
    """One edit.

    Attributes:
        place: The first place that it changes, or that before which it inserts.
        tokens: What these places hold afterwards; -1 where nothing.
        inserted: The token that it inserts; -1 for none.
    """

    place: int
    tokens: Text
    inserted: int = UNKNOWN


class _Proposals(NamedTuple):
    """Edits worth weighing, the probability of every token, and the calls these took."""

    edits: list[_Edit]
    probs: tuple[float, ...]
    calls: int


class _Weighed(NamedTuple):
    """Edits that give different texts, their log-odds against no edit, and the calls it took."""

    edits: list[_Edit]
    scores: list[float]
    calls: int


@dataclass(frozen=True, eq=False)
class _Draft:
    """A text on the way, told by what became of every place that was read.

    Attributes:
        soft: The soft mask of what was read, of one sequence.
        levels: g of every place, ∞ where it is certain or not asked about.
        tokens: As in `Decision`.
        probs: As in `Decision`.
        inserted: As in `Decision`.
        inserted_probs: As in `Decision`.
        is_edited: Which places have been edited.
    """

    soft: State
    levels: tuple[float, ...]
    tokens: Text
    probs: tuple[float, ...]
    inserted: Text
    inserted_probs: tuple[float, ...]
    is_edited: tuple[bool, ...]

    @classmethod
    def of(cls, reading: Reading, row: int) -> "_Draft":
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
        )

    def is_free(self, place: int) -> bool:
        """Return whether a place may be edited."""
        inside = 0 <= place < len(self.tokens)
        return inside and not self.is_edited[place] and self.levels[place] < torch.inf

    def cost(self, edit: _Edit) -> float:
        """Return what an edit costs, in nats: g, in a gap the smaller one of both sides."""
        if edit.tokens:
            return max(self.levels[edit.place : edit.place + len(edit.tokens)])
        return min(self.levels[max(0, edit.place - 1) : edit.place + 1])

    def edited(self, edit: _Edit, probability: float) -> "_Draft":
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


def _with_blanks(state: State, places: Sequence[int]) -> State:
    """Return one copy of a state for each place, with a blank before it."""
    length = state.known.shape[-1]
    at = torch.arange(length + 1, device=state.z.device)
    place = torch.tensor(places, device=at.device)[:, None]
    source = (at - (at > place).long()).clamp_max(length - 1)
    copies = State(state.z[0, source], state.known[0, source], state.snr[0, source])
    return copies.forget(at == place)


def _weigh(denoiser: Denoiser, draft: _Draft, edits: Sequence[_Edit]) -> _Weighed:
    """Return the log-odds of every different text that an edit gives."""
    now, texts = draft.text(), dict[Text, _Edit]()
    for edit in edits:
        text = draft.edited(edit, 0.0).text()
        if text and text != now and draft.cost(edit) < torch.inf:
            texts.setdefault(text, edit)
    if not texts:
        return _Weighed([], [], 0)
    nats, calls = _nats(denoiser, [now, *texts])
    scores = [nats[now] - nats[text] - draft.cost(edit) for text, edit in texts.items()]
    return _Weighed(list(texts.values()), scores, calls)


def _nats(denoiser: Denoiser, texts: Sequence[Text]) -> tuple[dict[Text, float], int]:
    """Return the exact `-log P` of every text from left to right, and the calls."""
    of_length: dict[int, list[Text]] = defaultdict(list)
    for text in texts:
        of_length[len(text)].append(text)
    nats, calls, codebook = dict[Text, float](), 0, denoiser.codebook
    for length, same in of_length.items():
        size = rows_at_once(length, codebook.vocabulary_size)
        for begin in range(0, len(same), size):
            part = same[begin : begin + size]
            tokens = torch.tensor(part, device=codebook.one.device)
            estimate = left_to_right(denoiser, tokens)
            values: Float[Tensor, " texts"] = estimate.values
            nats.update(zip(part, values.tolist(), strict=True))
            calls += estimate.denoiser_calls
    return nats, calls
