"""Correcting by single edits, each resulting text weighed by its exact likelihood.

If a text x was read as s, Bayes' rule says `P(x|s) ∝ P(x) P(s|x)`. The model gives `P(x)` exactly,
from left to right, whatever the length of x; a two-sided one in a single call for a batch of texts.
Every edit undoes an error, of which `tasks.correct.errors` knows how rare it is:

    log P(x|s) = log P(x) - Σ_edits cost + const,

and `P(x) = P(n) P(x|n)` for a sequence of length n. Trying all edits would take V candidates for
each place, so the posterior of all places, one call, says which are most doubtful: where another
token is most probable against the one read, and which neighbours, where each is probable in the
other's place. Its most probable tokens are the candidates there, and one more call, with a blank
put into each gap beside these places, says what could have been lost. Pieces of several tokens that
are known to be read as what was read are tried where they are least rare. Then all candidates are
weighed, the best that do not touch each other are made, and all begins again with the text as it is
now, until no edit is probable enough.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core import UNKNOWN, Denoiser, Posterior, State, left_to_right
from stochloc.core.denoisers.blocked import BLOCK_SIZE
from stochloc.data.lengths import Lengths
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.correct.drafts import Draft, Edit
from stochloc.tasks.correct.errors import LONGEST_PIECE, Text
from stochloc.tasks.correct.reading import Decision, Reading


@dataclass(frozen=True)
class LikelyEdits:
    """Correct by the edits that make the text most probable, its length included.

    Attributes:
        threshold: An edit is made if its probability, among all candidates near it and the text
            without it, exceeds this, in `[0, 1]`.
        num_places: Most doubtful places at which edits are tried in a round.
        num_tokens: Most probable tokens tried at each of them, and in the gaps beside it.
        num_swaps: Most doubtful pairs of neighbours that are swapped in a round.
        num_pieces: Most pieces of several tokens that are tried in a round, where errors of such
            pieces are known.
        num_rounds: Most rounds; each may make several edits, but only one near a place.
        reach: Edits less than this many places apart exclude each other within a round.
        lengths: The distribution of the lengths of sequences, if texts are some.
    """

    threshold: float
    num_places: int = 6
    num_tokens: int = 3
    num_swaps: int = 12
    num_pieces: int = 72
    num_rounds: int = 4
    reach: int = 8
    lengths: Lengths | None = None

    def __post_init__(self) -> None:
        if min(self.num_places, self.num_tokens, self.num_rounds, self.reach) < 1:
            raise ValueError(
                "Edits need at least one place, one token, one round and a reach of one, not "
                f"{self.num_places}, {self.num_tokens}, {self.num_rounds} and {self.reach}."
            )
        if min(self.num_swaps, self.num_pieces) < 0:
            raise ValueError(
                "At least 0 pairs of neighbours are swapped and 0 pieces are tried, not "
                f"{self.num_swaps} and {self.num_pieces}."
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
            draft, more = self._edited(denoiser, Draft.of(reading, row))
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

    def _edited(self, denoiser: Denoiser, draft: Draft) -> tuple[Draft, int]:
        calls = 0
        for number in range(self.num_rounds):
            proposals = self._proposals(denoiser, draft)
            calls += proposals.calls
            if number == 0:
                draft = replace(draft, probs=proposals.probs)
            weighed = self._weigh(denoiser, draft, proposals.edits)
            calls += weighed.calls
            chosen = self._choose(weighed)
            for edit, probability in chosen:
                draft = draft.edited(edit, probability)
            if not chosen:
                break
        return draft, calls

    def _proposals(self, denoiser: Denoiser, draft: Draft) -> "_Proposals":
        """Return the edits worth weighing: those of the most doubtful places and their gaps."""
        state, text, origins = draft.state(), draft.text(), draft.origins()
        posterior = denoiser(state)
        log_probs = posterior.log_probs_of(0, denoiser.codebook.vocabulary_size)[0]
        read = torch.tensor(text, device=log_probs.device)[:, None]
        own = log_probs.gather(-1, read)
        others = log_probs.scatter(-1, read, -torch.inf)
        doubts = (others.amax(-1) - own[:, 0]).tolist()
        probs = dict(zip(origins, own[:, 0].exp().tolist(), strict=True))
        where = {place: at for at, place in enumerate(origins) if draft.is_free(place)}
        places = sorted(where, key=lambda place: -doubts[where[place]])[: self.num_places]
        likely = _most_likely(others, self.num_tokens)
        edits = [Edit(n, (token,)) for n in places for token in (*likely[where[n]], UNKNOWN)]
        edits += _swaps(draft, log_probs - own, where, self.num_swaps)
        edits += _pieces(draft, doubts, where, self.num_pieces)
        gaps = {gap for place in places for gap in (place, place + 1)}
        lost, calls = self._lost(denoiser, state, origins, sorted(filter(draft.is_empty, gaps)))
        told = tuple(probs.get(place, was) for place, was in enumerate(draft.probs))
        return _Proposals(edits + lost, told, posterior.calls + calls)

    def _lost(
        self, denoiser: Denoiser, state: State, origins: Sequence[int], gaps: Sequence[int]
    ) -> tuple[list[Edit], int]:
        """Return what may have been lost in each gap, and the calls."""
        if not gaps:
            return [], 0
        # Where a blank goes: before the first token that is not before the gap.
        at = [sum(origin < gap for origin in origins) for gap in gaps]
        likely, calls, num_tokens = [], 0, denoiser.codebook.vocabulary_size
        size = rows_at_once(len(origins) + 1, num_tokens)
        for begin in range(0, len(at), size):
            part = at[begin : begin + size]
            posterior = denoiser(_with_blanks(state, part))
            log_probs = _log_probs_at(posterior, part)
            likely += _most_likely(log_probs, self.num_tokens)
            calls += posterior.calls
        edits = [
            Edit(gap, (), token) for gap, tokens in zip(gaps, likely, strict=True)
            for token in tokens
        ]  # fmt: skip
        return edits, calls

    def _weigh(self, denoiser: Denoiser, draft: Draft, edits: Sequence[Edit]) -> "_Weighed":
        """Return the log-odds of every different text that an edit gives."""
        now, texts = draft.text(), dict[Text, Edit]()
        prices = {edit: draft.cost(edit) for edit in edits}
        # Of edits that give the same text, the first of the cheapest ones is the one to weigh.
        for edit in sorted(prices, key=lambda edit: prices[edit]):
            text = draft.edited(edit, 0.0).text()
            if self._is_possible(text) and text != now and prices[edit] < torch.inf:
                texts.setdefault(text, edit)
        if not texts:
            return _Weighed([], [], 0)
        nats, calls = _nats(denoiser, [now, *texts])
        costs = {text: cost + self._length_nats(text) for text, cost in nats.items()}
        scores = [costs[now] - costs[text] - prices[edit] for text, edit in texts.items()]
        return _Weighed(list(texts.values()), scores, calls)

    def _is_possible(self, text: Text) -> bool:
        return bool(text) and (self.lengths is None or len(text) <= self.lengths.longest)

    def _length_nats(self, text: Text) -> float:
        if self.lengths is None:
            return 0.0
        return -float(self.lengths.log_prob(torch.tensor(len(text))))

    def _choose(self, weighed: "_Weighed") -> list[tuple[Edit, float]]:
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


class _Proposals(NamedTuple):
    """Edits worth weighing, the probability of every token, and the calls these took."""

    edits: list[Edit]
    probs: tuple[float, ...]
    calls: int


class _Weighed(NamedTuple):
    """Edits that give different texts, their log-odds against no edit, and the calls it took."""

    edits: list[Edit]
    scores: list[float]
    calls: int


def _swaps(
    draft: Draft,
    odds: Float[Tensor, "places vocabulary"],
    where: Mapping[int, int],
    num: int,
) -> list[Edit]:
    """Return the swaps of free neighbours whose tokens are most probable in each other's place."""
    tokens = draft.tokens
    pairs = [n for n in where if n + 1 in where and tokens[n] != tokens[n + 1]]
    here, next_ = ([where[n + k] for n in pairs] for k in (0, 1))
    first, second = ([tokens[n + k] for n in pairs] for k in (0, 1))
    gains = odds[here, second] + odds[next_, first]
    best = gains.topk(min(num, len(pairs))).indices.tolist()
    return [Edit(pairs[k], (second[k], first[k])) for k in best]


def _pieces(
    draft: Draft, doubts: Sequence[float], where: Mapping[int, int], num: int
) -> list[Edit]:
    """Return the edits that undo errors of several tokens, the least rare of the most doubtful."""
    edits = dict[Edit, float]()
    for place, size in product(where, range(1, LONGEST_PIECE + 1)):
        touched = range(place, place + size)
        if not all(at in where for at in touched):
            continue
        doubt = max(doubts[where[at]] for at in (place - 1, *touched, place + size) if at in where)
        for right, cost in draft.errors.likely(draft.tokens[place : place + size]).items():
            edits[_replacing(place, size, right)] = doubt - cost
    return sorted(edits, key=lambda edit: -edits[edit])[:num]


def _replacing(place: int, size: int, right: Text) -> Edit:
    """Return the edit that puts a piece, of at most one token more, where so many were."""
    kept = right[-size:]
    empty = (UNKNOWN,) * (size - len(kept))
    return Edit(place, (*kept, *empty), *right[: len(right) - len(kept)])


def _most_likely(log_probs: Float[Tensor, "places vocabulary"], num: int) -> list[list[int]]:
    """Return the most probable tokens of every place that are possible there."""
    best = log_probs.topk(min(num, log_probs.shape[-1]))
    return [
        [token for token, nats in zip(*row, strict=True) if nats > -torch.inf]
        for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _with_blanks(state: State, places: Sequence[int]) -> State:
    """Return one copy of a state for each place, with a blank before it."""
    length = state.known.shape[-1]
    at = torch.arange(length + 1, device=state.z.device)
    place = torch.tensor(places, device=at.device)[:, None]
    source = (at - (at > place).long()).clamp_max(length - 1)
    copies = State(state.z[0, source], state.known[0, source], state.snr[0, source])
    return copies.forget(at == place)


def _log_probs_at(posterior: Posterior, places: Sequence[int]) -> Float[Tensor, "texts tokens"]:
    """Return the log-probabilities of all tokens at one place of each text, and hold no others."""
    size = posterior.codebook.vocabulary_size
    spans = ((start, min(start + BLOCK_SIZE, size)) for start in range(0, size, BLOCK_SIZE))
    rows = range(len(places))
    return torch.cat([posterior.log_probs_of(*span)[rows, places] for span in spans], -1)


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
