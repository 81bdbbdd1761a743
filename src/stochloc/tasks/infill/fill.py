"""Filling the blanks of a text: draw, then rank by probability.

Answers are drawn by a free walk that starts with the given tokens known, along any path, and then
ranked by a cost without noise. A two-sided model gives the exact likelihood of the whole text from
left to right in one call for all answers,

    nats = -Σ_i log Q(x_i | x_<i),

which ranks the right answer first more often than that of the blanks given the rest
(docs/results/infilling.md). For any other, an answer is scored by unmasking its blanks one token
at a time, in K orders that are the same for all answers,

    nats = -log (1/K) Σ_k Π_i Q(x_i | given tokens, blanks earlier in order k),

which is the exact cost of the sampler that picks one of these orders. Where blanks have unknown
lengths the positions of the given tokens differ between layouts, so the whole text is scored: the
given tokens first, then the blanks. The text of a model of sequences is a whole one, and a whole
one that is scored costs `-log P(n)` of its length as well.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Constrained,
    Follow,
    Masked,
    Streams,
    Tempered,
    between,
    bound,
    left_to_right,
    start,
)
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.infill.templates import Layout, Template, allowed_tokens
from stochloc.tasks.numbers import check_least
from stochloc.tasks.runs import Run
from stochloc.tasks.walks import Walk
from stochloc.terminal import times
from stochloc.training.seeds import seeded_streams

Order = tuple[int, ...]


@dataclass(frozen=True)
class Infilling:
    """How to fill blanks.

    Attributes:
        num_answers: Largest number of answers, at least 1.
        num_draws: Walks for every layout of the template, at least 1; equal results count once.
        walk: How to walk.
        num_orders: Orders in which an answer is scored, at least 1, unless the model gives the
            exact likelihood in one call.
        seed: Seed of all randomness.
        label: The class of the text, for a model with classes; None leaves it open.
    """

    num_answers: int = 5
    num_draws: int = 32
    walk: Walk = field(default_factory=lambda: Walk(Masked(), Ancestral(), 64))
    num_orders: int = 4
    seed: int = 0
    label: str | None = None

    def __post_init__(self) -> None:
        check_least(
            ("number of answers", self.num_answers, 1),
            ("number of draws", self.num_draws, 1),
            ("number of orders", self.num_orders, 1),
            ("seed", self.seed, 0),
        )


@dataclass(frozen=True)
class Answer:
    """A text without blanks.

    Attributes:
        text: The whole text.
        blanks: What was filled into each blank.
        nats: Its cost: of the blanks given the rest, or of the whole text (`Infilled.scored`).
        bits_per_character: The cost per character that was scored.
    """

    text: str
    blanks: tuple[str, ...]
    nats: float
    bits_per_character: float


@dataclass(frozen=True)
class Infilled:
    """Answers and their costs.

    Attributes:
        answers: The most probable first.
        scored: "text" of a two-sided model, and where blanks have unknown lengths; else "blanks".
        ranking: What kind of number the costs are, in words.
        denoiser_calls: Denoiser calls, each for a batch of texts.
        seconds: Time it took.
    """

    answers: tuple[Answer, ...]
    scored: str
    ranking: str
    denoiser_calls: int
    seconds: float


def infill(
    run: Run,
    template: str,
    infilling: Infilling | None = None,
    constraints: str | Sequence[str] = (),
    marker: str = "_",
    say: Callable[[str], None] = lambda line: None,
) -> Infilled:
    """Fill the blanks of a text; the same seed gives the same answers.

    Args:
        run: The model and its tokenizer.
        template: The text with its blanks (see `tasks.infill.templates`).
        infilling: How to fill them.
        constraints: Characters that blanks may hold: `aeiou` for all, `2:a-e` for the second; one
            such text, or several.
        marker: What stands for a blank of one token.
        say: Called with a line about every normalisation of the template and, where lengths are
            unknown, about the number of their combinations.

    Returns:
        Different answers, ranked by their cost without the constraints. Takes as many calls as the
        walk and, of a two-sided model, one more; of any other, one for every blank token and order.
        Where lengths are unknown, as many for every layout, and of a model that is not two-sided
        one more for every token and order.

    Raises:
        ValueError: The template, a constraint or a setting is invalid, there is no such class, or
            the blanks do not fit into the window of the model.
    """
    infilling = infilling or Infilling()
    started_s = time.monotonic()
    parsed = Template.parse(template, run.tokenizer, marker)
    for note in parsed.notes:
        say(f"stochloc: {note}.")
    allowed = allowed_tokens(constraints, len(parsed.blanks), run.tokenizer)
    layouts = parsed.layouts()
    if len(layouts) > 1 and max(map(len, layouts)) > run.text_length:
        raise ValueError(
            f"A text with blanks of unknown length must fit into the {run.text_length} tokens of "
            f"the model's window, but this one may have {max(map(len, layouts))}; shorten it."
        )
    whole = len(layouts) > 1 or between(run.model) is not None
    fillers = [_Filler(run, infilling, layout, whole) for layout in layouts]
    best: dict[str, Answer] = {}
    if len(fillers) > 1:
        say(
            f"stochloc: the blanks may have {len(fillers)} combinations of lengths; each of them "
            f"is filled {times(infilling.num_draws, 'time')}."
        )
    for filler in fillers:
        for answer in filler.answers(allowed if constraints else None):
            if answer.text not in best or answer.nats < best[answer.text].nats:
                best[answer.text] = answer
    ranked = sorted(best.values(), key=lambda answer: answer.nats)
    return Infilled(
        tuple(ranked[: infilling.num_answers]),
        "text" if whole else "blanks",
        _ranking(run, infilling, whole),
        sum(filler.calls for filler in fillers),
        time.monotonic() - started_s,
    )


class _Filler:
    """Draws and scores the answers of one layout, and counts the denoiser calls."""

    def __init__(self, run: Run, infilling: Infilling, layout: Layout, whole: bool) -> None:
        self.run, self.infilling, self.layout, self.whole = run, infilling, layout, whole
        if run.lengths is not None and len(layout) > run.text_length:
            raise ValueError(
                f"The text has {len(layout)} tokens, but the model knows sequences of at most "
                f"{run.text_length}; shorten it."
            )
        self.window = _window(layout, run.text_length)
        self.known = layout.known[self.window].to(run.device)
        self.denoiser = run.denoiser_for(len(self.known), infilling.label)
        self.length_nats = run.length_nats(len(self.known), infilling.label) if whole else 0.0
        self.calls = 0

    def answers(self, allowed: Tensor | None) -> list[Answer]:
        """Return the different results of the walks, in no order.

        Args:
            allowed: Which tokens each blank may hold, `(blanks, V)`; None for all.

        Returns:
            Answers with their costs.
        """
        fillings = self._draw(allowed).unique(dim=0)
        nats = self._nats(fillings) + self.length_nats
        return [self._answer(*pair) for pair in zip(fillings.cpu(), nats.tolist(), strict=True)]

    def _draw(self, allowed: Tensor | None) -> Int[Tensor, "draws length"]:
        denoiser, device = self.denoiser, self.known.device
        if allowed is not None:
            # Given tokens have blank -1, which selects the row added at the end.
            rows = torch.cat([allowed, torch.ones_like(allowed[:1])])
            denoiser = Constrained(denoiser, rows[self.layout.blank[self.window]].to(device))
        walk, fillings = self.infilling.walk, []
        denoiser = Tempered(denoiser, walk.temperature)
        for draws in self._batches(self.infilling.num_draws):
            known = self.known.expand(len(draws), -1)
            state = start(denoiser.codebook, *known.shape, known=known)
            drawn = walk.draw(denoiser, state, self._streams(draws))
            self.calls += drawn.denoiser_calls
            fillings.append(drawn.tokens)
        return torch.cat(fillings)

    def _nats(self, fillings: Int[Tensor, "draws length"]) -> Float[Tensor, " draws"]:
        """Return the cost of each filling."""
        if between(self.denoiser) is None:
            return self._nats_by_orders(fillings)
        nats = []
        for rows in self._batches(len(fillings)):
            estimate = left_to_right(self.denoiser, fillings[rows.start : rows.stop])
            self.calls += estimate.denoiser_calls
            nats.append(estimate.values)
        return torch.cat(nats)

    def _nats_by_orders(self, fillings: Int[Tensor, "draws length"]) -> Float[Tensor, " draws"]:
        """Return `-log` of the mean over orders of the probability of each filling."""
        orders = self._orders()
        log_probs = torch.stack([self._log_prob(fillings, order) for order in orders])
        return math.log(len(orders)) - log_probs.logsumexp(0)

    def _log_prob(
        self, fillings: Int[Tensor, "draws length"], order: Order
    ) -> Float[Tensor, " draws"]:
        known = self.known.expand_as(fillings)
        blanks = -self._bound(fillings, order, known).sum(-1)
        if not self.whole:
            return blanks
        # The given tokens come first in the order, so they cost the same in every filling.
        given = self._bound(fillings[:1], order, None)[0]
        return blanks - given[self.known != UNKNOWN].sum()

    def _bound(
        self, tokens: Int[Tensor, "draws length"], order: Order, known: Tensor | None
    ) -> Float[Tensor, "draws length"]:
        nats = []
        for rows in self._batches(len(tokens)):
            part = slice(rows.start, rows.stop)
            estimate = bound(
                self.denoiser, tokens[part], Follow(Autoregressive(order)), Ancestral(), len(order),
                self._streams(rows), None if known is None else known[part],
            )  # fmt: skip
            self.calls += estimate.denoiser_calls
            nats.append(estimate.token_nats)
        return torch.cat(nats)

    def _batches(self, num: int) -> Iterator[range]:
        seen = max(len(self.known), self.run.text_length)
        size = rows_at_once(seen, self.run.tokenizer.vocabulary_size)
        return (range(begin, min(begin + size, num)) for begin in range(0, num, size))

    def _streams(self, rows: range) -> Streams:
        return seeded_streams(self.run.device, self.infilling.seed, ((n,) for n in rows))

    def _orders(self) -> list[Order]:
        """Return orders with given tokens first: left to right, right to left, then random ones."""
        length, seed = len(self.known), torch.Generator().manual_seed(self.infilling.seed)
        ways = [torch.arange(length), torch.arange(length).flip(0)]
        ways += [torch.randperm(length, generator=seed) for _ in range(self.infilling.num_orders)]
        is_blank = (self.known == UNKNOWN).cpu()
        return [
            tuple(way[is_blank[way].int().argsort(stable=True)].tolist())
            for way in ways[: self.infilling.num_orders]
        ]

    def _answer(self, filling: Int[Tensor, " length"], nats: float) -> Answer:
        decode, layout = self.run.tokenizer.decode, self.layout
        tokens = layout.known.clone()
        tokens[self.window] = filling
        blanks = tuple(
            decode(tokens[layout.blank == number]) for number in range(layout.num_blanks)
        )
        text = decode(tokens)
        num_characters = len(decode(filling)) if self.whole else sum(map(len, blanks))
        return Answer(text, blanks, nats, nats / math.log(2) / max(1, num_characters))


def _ranking(run: Run, infilling: Infilling, whole: bool) -> str:
    length = ", its length included" if whole and run.lengths is not None else ""
    if between(run.model) is None:
        orders = infilling.num_orders
        return f"the likelihood of a sampler that picks one of {times(orders, 'order')}{length}"
    return f"the exact likelihood from left to right{length}"


def _window(layout: Layout, length: int) -> slice:
    """Return the window of a long text that the model is shown, with the blanks in its middle."""
    if len(layout) <= length:
        return slice(None)
    places = (layout.known == UNKNOWN).nonzero().flatten().tolist() or [0]
    first, last = places[0], places[-1] + 1
    if last - first > length:
        raise ValueError(
            f"From the first to the last blank there are {last - first} tokens, but the model was "
            f"trained on windows of {length}; fill the blanks in parts."
        )
    begin = min(max(0, (first + last - length) // 2), len(layout) - length)
    return slice(begin, begin + length)
