"""The best interleaved path of N steps for a model and a text, by dynamic programming.

The knots of a lattice are shares of known tokens and values of γ of the others. A step leads from
the knot (s, a) to (t, b): the tokens whose places lie between the shares s and t are decided, those
beyond t rise from γ = a to γ = b, and all are paid for by the posterior at (s, a). Which tokens are
decided matters where the order does: those due next in a spread order may lie between known ones.
So the costs at a knot are kept for each part of the order, between neighbouring shares,

    cost of a step = Σ_{s ≤ part < t} decide(s, a, part) + Σ_{part ≥ t} rise(s, a, b, part),

and the best path of N steps is a shortest path of N edges: `O(N)` times the number of edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import UNKNOWN, advance, observe
from stochloc.core.checks import check_tokens
from stochloc.core.denoisers.posterior import Denoiser
from stochloc.core.numerics import in_double
from stochloc.core.paths.interleaved import Interleaved, Order, Shuffled
from stochloc.core.streams import Randomness
from stochloc.core.transitions import Transition


@dataclass(frozen=True, eq=False)
class StepCosts:
    """What steps between the knots of a lattice cost, in nats per token of the sequence.

    Attributes:
        known: Shares of known tokens, from 0, increasing, below 1; the end is share 1. Part j of
            the order is the tokens whose places lie between share j and the next.
        snr: Values of γ, from 0, increasing, finite.
        decide: Cost of deciding the tokens of a part, `-log Q`, at every knot; 0 for parts known.
        rise: Cost of raising the tokens of a part from one γ to another at every share; ∞ downwards
            and 0 for parts known.
    """

    known: Float[Tensor, " shares"]
    snr: Float[Tensor, " levels"]
    decide: Float[Tensor, "shares levels parts"]
    rise: Float[Tensor, "shares levels levels parts"]

    @classmethod
    def average(cls, pieces: Sequence["StepCosts"], weights: Sequence[int]) -> "StepCosts":
        """Return the costs of several texts together.

        Args:
            pieces: Costs on the same lattice, at least one.
            weights: Sequences behind each, at least one in all.

        Returns:
            The weighted averages.
        """
        shares = [weight / sum(weights) for weight in weights]
        pairs = list(zip(pieces, shares, strict=True))
        decide = torch.stack([piece.decide * share for piece, share in pairs]).sum(0)
        rise = torch.stack([piece.rise * share for piece, share in pairs]).sum(0)
        return cls(pieces[0].known, pieces[0].snr, decide, rise)

    def refined(self, num_shares: int) -> "StepCosts":
        """Return the costs at more shares, between the measured ones by linear interpolation.

        Args:
            num_shares: Number of shares, `0, 1/n, ..., (n - 1)/n`; beyond the last measured share
                the costs are taken to be constant.

        Returns:
            A finer lattice, for paths of many steps. A measured part costs at all shares inside it
            what it costs at its begin, since after it is known its cost is not measured.
        """
        known = torch.arange(num_shares, dtype=self.known.dtype) / num_shares
        part = torch.searchsorted(self.known, known, right=True) - 1
        after = (part + 1).clamp(max=len(self.known) - 1)
        gap = (self.known[after] - self.known[part]).clamp(min=torch.finfo(known.dtype).tiny)
        weight = ((known - self.known[part]) / gap).clamp(max=1)
        shrinks = _widths(known) / _widths(self.known)[part]
        is_open = torch.arange(num_shares) >= torch.arange(num_shares)[:, None]
        own = part == part[:, None]

        def between(values: Float[Tensor, "shares *rest parts"]) -> Float[Tensor, "finer *rest n"]:
            view = [-1] + [1] * (values.ndim - 2)
            here, there = values[part][..., part], values[after][..., part]
            there = torch.where(own.view(*view, num_shares), here, there)
            share = weight.view(*view, 1)
            mixed = ((1 - share) * here + share * there) * shrinks
            # Impossible steps are impossible at every share, and 0 · ∞ would give NaN.
            mixed = mixed.masked_fill(here.isinf(), torch.inf)
            return mixed.masked_fill(~is_open.view(*view, num_shares) & here.isfinite(), 0.0)

        return StepCosts(known, self.snr, between(self.decide), between(self.rise))

    def best_path(self, num_steps: int, order: Order | None = None) -> Interleaved:
        """Return the path of at most N steps on the lattice with the lowest finite-step bound.

        Args:
            num_steps: N, at least 1.
            order: The order in which the costs were measured; random when absent.

        Returns:
            The path. It is the best one for the text the costs were measured on.

        Raises:
            ValueError: `num_steps` is below 1 or not a whole number.
        """
        if num_steps < 1 or isinstance(num_steps, float):
            raise ValueError(
                f"The number of steps of a path is a whole number of at least 1, not {num_steps}."
            )
        edges = self._edges()
        costs, choices = self._to_end(), []
        for _ in range(num_steps - 1):
            costs, choice = (edges + costs).min(-1)
            choices.append(choice)
        node, nodes = 0, [0]
        for choice in reversed(choices):
            node = int(choice[node])
            nodes.append(node)
        # Waiting at a knot is free, so a path that needs fewer steps repeats knots.
        nodes = list(dict.fromkeys(nodes))
        shares = [float(self.known[node // len(self.snr)]) for node in nodes]
        levels = [float(self.snr[node % len(self.snr)]) for node in nodes]
        return Interleaved((*shares, 1.0), (*levels, levels[-1]), order or Shuffled())

    def cost(self, path: Interleaved) -> float:
        """Return the expected finite-step bound of a path on the lattice, in nats per token.

        Args:
            path: A path whose knots are knots of the lattice, in the order that was measured.

        Returns:
            The sum of the measured costs of its steps.
        """
        shares, levels = self.known.tolist(), self.snr.tolist()
        nodes = [
            shares.index(share) * len(levels) + levels.index(level)
            for share, level in zip(path.known[:-1], path.snr[:-1], strict=True)
        ]
        edges = self._edges()
        return float(self._to_end()[nodes[-1]]) + sum(
            float(edges[a, b]) for a, b in pairwise(nodes)
        )

    def _to_end(self) -> Float[Tensor, " knots"]:
        """Cost of deciding all tokens that are left."""
        return self.decide.sum(-1).flatten()

    def _edges(self) -> Float[Tensor, "knots knots"]:
        """Cost of every step: the tokens of some parts are decided, the rest rise."""
        num_shares, num_levels = self.decide.shape[:2]
        # Parts from the present share up to the next one, and from the next one on.
        decided = self.decide.cumsum(-1) - self.decide
        risen = self.rise.flip(-1).cumsum(-1).flip(-1)
        edges = decided[:, :, :, None] + risen.transpose(-1, -2)
        revealed = self.known[None, :] - self.known[:, None]
        edges = edges.masked_fill((revealed < 0)[:, None, :, None], torch.inf)
        return edges.reshape(num_shares * num_levels, num_shares * num_levels)


@torch.no_grad()
def measure_step_costs(
    denoiser: Denoiser,
    tokens: Int[Tensor, "batch length"],
    transition: Transition,
    known: Float[Tensor, " shares"],
    snr: Float[Tensor, " levels"],
    generator: Randomness,
    given: Int[Tensor, "batch length"] | None = None,
    order: Order | None = None,
) -> StepCosts:
    """Measure what steps between the knots of a lattice cost on a text.

    Args:
        denoiser: Gives the posterior.
        tokens: Sequences of text.
        transition: Defines the costs of the steps.
        known: Shares of known tokens, from 0, increasing, below 1.
        snr: Values of γ, from 0, increasing, finite.
        generator: Source of the order of the tokens and of the channel's noise.
        given: Tokens that are always known, `-1` elsewhere: labels, which cost nothing.
        order: The order in which tokens become known; random when absent.

    Returns:
        Unbiased averages over the text, in one order for all knots. One denoiser call per knot.

    Raises:
        ValueError: A token is outside of the vocabulary.
    """
    check_tokens(denoiser.codebook, tokens)
    free = torch.ones_like(tokens, dtype=torch.bool) if given is None else given == UNKNOWN
    shares = known.double().cpu()
    # One order for all knots: what is common to two paths must not make one of them cheaper.
    places = in_double((order or Shuffled()).places(free, generator)).cpu()
    part = torch.searchsorted(shares, places, right=True) - 1
    codebook, (batch, length) = denoiser.codebook, tokens.shape
    num_shares, num_levels = len(known), len(snr)
    decide = torch.empty(num_shares, num_levels, num_shares, dtype=torch.float64)
    rise = torch.full((num_shares, num_levels, num_levels, num_shares), torch.inf).double()

    def by_part(cost: Float[Tensor, "batch length"], s: int) -> Float[Tensor, " parts"]:
        costs = in_double(cost).cpu().masked_fill(~free.cpu() | (part < s), 0.0)
        totals = torch.zeros(num_shares, dtype=torch.float64)
        return totals.index_add(0, part.flatten(), costs.flatten()) / int(free.sum())

    for s in range(num_shares):
        unknown = free & (part >= s).to(free.device)
        for a, level in enumerate(snr.tolist()):
            levels = torch.full((batch, length), level, device=tokens.device)
            before = observe(codebook, tokens, levels.masked_fill(~unknown, torch.inf), generator)
            posterior = denoiser(before)
            decide[s, a] = by_part(-posterior.log_prob(tokens), s)
            rise[s, a, a] = 0.0
            after = before
            for b in range(a + 1, num_levels):
                dsnr = torch.full_like(after.snr, float(snr[b] - snr[b - 1]))
                after = advance(codebook, after, tokens, dsnr, generator)
                rise[s, a, b] = by_part(transition.cost(before, after, posterior, tokens), s)
    return StepCosts(shares, snr.double().cpu(), decide, rise)


def _widths(known: Float[Tensor, " shares"]) -> Float[Tensor, " shares"]:
    """Share of the tokens in every part of the order."""
    return torch.cat([known, known.new_ones(1)]).diff()
