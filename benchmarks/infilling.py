"""How often blanked characters are restored exactly: by n-grams, unmasking and localization.

A share of the characters of held-out lines is blanked, at random places or in spans, and every
method fills the blanks from the rest of the line alone. The trigram baseline is the strongest
possible: it sums (or maximises) over all fillings of a line by dynamic programming, so it uses both
sides. Rates per character and per line, with standard errors over lines.

    python benchmarks/infilling.py RUN [--lines 200] [--length 40] [--share 0.2] [--spans]
    python benchmarks/infilling.py --smoke
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from smoke import small_run
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Autoregressive,
    Denoiser,
    Diffusion,
    Follow,
    LowEntropy,
    Masked,
    Policy,
    Posterior,
    Randomness,
    Reveal,
    State,
    Tempered,
    Transition,
    bound,
    sample,
    start,
)
from stochloc.data import NgramModel, held_out_windows
from stochloc.tasks.parts import tokens_to_evaluate
from stochloc.tasks.runs import Run, open_run

SPAN = 4
DRAWS = 8
DIFFUSION_STEPS = 32


@dataclass(frozen=True)
class Trigram:
    """The trigram model's best filling, by dynamic programming over pairs of neighbours.

    Attributes:
        first: `log P(a)` of a line's first token, `(V,)`.
        second: `log P(b|a)`, `(V, V)`.
        third: `log P(c|a, b)`, `(V, V, V)`.
    """

    first: Tensor
    second: Tensor
    third: Tensor

    @classmethod
    def fit(cls, tokens: np.ndarray, size: int) -> "Trigram":
        """Fit the model to a text."""
        model = NgramModel.fit(tokens, 3, size)
        log_prob = model.log_prob(np.moveaxis(np.indices((size,) * 3), 0, -1))
        table = torch.from_numpy(log_prob)
        return cls(table[:, 0, 0, 0], table[:, :, 0, 1], table[..., 2])

    def fill(self, known: Tensor, pool: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Return the most probable value of each token if `pool` sums, else the most probable line.

        Args:
            known: The line's tokens, `-1` where blank, `(B, L)`.
            pool: Log-sum-exp or maximum over one dimension.
        """
        values = torch.arange(len(self.first))
        fits = (known[..., None] == values) | (known[..., None] == UNKNOWN)
        evidence = torch.zeros(fits.shape, dtype=self.first.dtype).masked_fill(~fits, -math.inf)
        length = known.shape[1]
        ahead = [self.first[:, None] + self.second + evidence[:, 0, :, None] + evidence[:, 1, None]]
        for i in range(2, length):
            step = ahead[-1][..., None] + self.third
            ahead.append(pool(step, 1) + evidence[:, i, None])
        behind, best = torch.zeros_like(ahead[0]), [pool(ahead[-1], 1).argmax(-1)]
        for i in range(length - 1, 1, -1):
            behind = pool(self.third + (behind + evidence[:, i, None])[:, None], 3)
            best.append(pool(ahead[i - 2] + behind, 1).argmax(-1))
        best.append(pool(ahead[0] + behind, 2).argmax(-1))
        return torch.stack(best[::-1], -1)


def blank_out(tokens: Tensor, share: float, in_spans: bool, generator: torch.Generator) -> Tensor:
    """Return the lines with the same number of blanks in each, marked by `-1`."""
    length = tokens.shape[1]
    num = round(share * length)
    if not in_spans:
        rank = torch.rand(tokens.shape, generator=generator).argsort(-1).argsort(-1)
        return tokens.masked_fill(rank < num, UNKNOWN)
    sizes = torch.tensor([len(part) for part in torch.arange(num).tensor_split(num // SPAN)])
    known = tokens.clone()
    for row in known:
        # Spans stand in different gaps between the kept characters, so that none touch.
        gaps = torch.randperm(length - num + 1, generator=generator)[: len(sizes)].sort().values
        starts = gaps + sizes.cumsum(0) - sizes
        for begin, size in zip(starts, sizes, strict=True):
            row[begin : begin + size] = UNKNOWN
    return known


class MostLikely(Ancestral):
    """Decides tokens by their most likely value, not by a draw.

    A low temperature would do the same, but it would also make the posterior nearly certain of
    every token, so that a policy could no longer order tokens by confidence.
    """

    def step(
        self, state: State, posterior: Posterior, dsnr: Tensor, generator: Randomness
    ) -> State:
        """Reveal the mode where `dγ = ∞`; this benchmark takes no other steps with it."""
        return state.reveal(posterior.mode, dsnr.isinf() & ~state.is_known)


@dataclass(frozen=True)
class Filler:
    """Ways to fill blanks with one denoiser, all from the same seed."""

    denoiser: Denoiser
    known: Tensor
    seed: int

    def argmax(self, policy: Policy) -> Tensor:
        """Return the result of a walk that sets one token at a time to its most likely value."""
        return self._walk(self.denoiser, policy, MostLikely(), self.known.shape[1], self.seed)

    def drawn(self, policy: Policy, steps: int, temperature: float, number: int = 0) -> Tensor:
        """Return the result of a sampling walk."""
        denoiser = Tempered(self.denoiser, temperature)
        return self._walk(denoiser, policy, Ancestral(), steps, self.seed + number)

    def _walk(
        self, denoiser: Denoiser, policy: Policy, transition: Transition, steps: int, seed: int
    ) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        state = start(denoiser.codebook, *self.known.shape, known=self.known)
        return sample(denoiser, state, policy, transition, steps, generator).tokens

    def mode(self) -> Tensor:
        """Return the posterior mode: one denoiser call."""
        with torch.no_grad():
            return self.denoiser(
                start(self.denoiser.codebook, *self.known.shape, known=self.known)
            ).mode

    def several(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Return the most likely of several walks by their bounds, and a vote on each character."""
        steps = self.known.shape[1]
        walks = [self.drawn(Follow(Masked()), steps, temperature, n) for n in range(DRAWS)]
        costs = torch.stack([self._cost(tokens) for tokens in walks])
        tokens = torch.stack(walks)
        best = tokens.gather(0, costs.argmin(0)[None, :, None].expand_as(tokens[:1]))[0]
        return best, tokens.mode(0).values

    def _cost(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        orders = (tuple(range(length)), tuple(range(length - 1, -1, -1)))
        nats = [
            bound(
                self.denoiser, tokens, Follow(Autoregressive(order)), Ancestral(), length,
                torch.Generator(), self.known,
            ).values
            for order in orders
        ]  # fmt: skip
        return -torch.stack(nats).neg().logsumexp(0)


def methods(run: Run, known: Tensor, seed: int) -> dict[str, Callable[[], dict[str, Tensor]]]:
    """Return every method by name; one that computes two fillings names both."""
    trigram = Trigram.fit(tokens_to_evaluate(run, None, "train")[0], run.tokenizer.vocabulary_size)
    filler = Filler(run.denoiser_for(known.shape[1]), known, seed)
    masked, diffusion, steps = Follow(Masked()), Follow(Diffusion()), known.shape[1]

    def several(temperature: float) -> dict[str, Tensor]:
        best, vote = filler.several(temperature)
        which = f"{DRAWS} masked walks, temperature {temperature:g}"
        return {f"best of {which}, by bound": best, f"vote of {which}": vote}

    single = {
        "trigram, most probable line": lambda: trigram.fill(known, torch.amax),
        "trigram, most probable characters": lambda: trigram.fill(known, torch.logsumexp),
        "masked, random order, sampled": lambda: filler.drawn(masked, steps, 1.0),
        "masked, random order, argmax": lambda: filler.argmax(masked),
        "posterior mode, one call": filler.mode,
        "left to right, argmax": lambda: filler.argmax(Follow(Autoregressive())),
        "most confident first, argmax": lambda: filler.argmax(Reveal()),
        "least entropy first, argmax": lambda: filler.argmax(Reveal(LowEntropy())),
        "diffusion, temperature 1": lambda: filler.drawn(diffusion, DIFFUSION_STEPS, 1.0),
        "diffusion, temperature 0.3": lambda: filler.drawn(diffusion, DIFFUSION_STEPS, 0.3),
    }
    named = {name: (lambda name=name, fill=fill: {name: fill()}) for name, fill in single.items()}
    return {**named, "several": lambda: several(0.5)}


def report(name: str, filled: Tensor, tokens: Tensor, known: Tensor, seconds: float) -> None:
    """Print the exact-match rates of one method."""
    if bool(((known != UNKNOWN) & (filled != tokens)).any()):
        raise AssertionError(f"{name} changed a given character.")
    blank = known == UNKNOWN
    right = ((filled == tokens) & blank).sum(-1) / blank.sum(-1)
    rates = [
        f"{100 * float(hits.mean()):5.1f} ± {100 * float(hits.std()) / math.sqrt(len(hits)):.1f}"
        for hits in (right.double(), (right == 1).double())
    ]
    print(f"| {name} | {rates[0]} | {rates[1]} | {seconds:.1f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--spans", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--smoke", action="store_true", help="measure a small model trained on the spot"
    )
    options = parser.parse_args()
    if options.smoke:
        options.lines, options.length = 2, 10
        with small_run() as folder:
            measure(open_run(folder), options)
    elif options.run is None:
        parser.error("give the folder of a run, or --smoke")
    else:
        measure(open_run(options.run), options)


def measure(run: Run, options: argparse.Namespace) -> None:
    """Print the table for a model."""
    tokens = held_out_windows(
        tokens_to_evaluate(run, None, "test")[0], options.length, options.lines
    )
    generator = torch.Generator().manual_seed(options.seed)
    known = blank_out(tokens, options.share, options.spans, generator)
    print(
        f"{len(tokens)} lines of {options.length}, {int((known[0] == UNKNOWN).sum())} blanks each"
    )
    print("| method | characters, % | lines, % | seconds |\n|---|---|---|---|")
    for method in methods(run, known, options.seed).values():
        began_s = time.monotonic()
        for name, filled in method().items():
            report(name, filled, tokens, known, time.monotonic() - began_s)


if __name__ == "__main__":
    main()
