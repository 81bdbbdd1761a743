"""The best interleaved path of N steps for a model and a text, by dynamic programming."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import UNKNOWN, advance, observe
from stochloc.core.denoisers.posterior import Denoiser
from stochloc.core.paths.interleaved import Interleaved
from stochloc.core.paths.orders import random_ranks
from stochloc.core.streams import Randomness
from stochloc.core.transitions import Transition


@dataclass(frozen=True, eq=False)
class StepCosts:
    """What steps between the knots of a lattice cost, in nats per token that takes them.

    Attributes:
        known: Shares of known tokens, from 0, increasing, below 1; the end is share 1.
        snr: Values of γ, from 0, increasing, finite.
        decide: Cost of deciding a token, `-log Q`, at every knot.
        rise: Cost of raising a token from one γ to another at every share; ∞ downwards.
    """

    known: Float[Tensor, " shares"]
    snr: Float[Tensor, " levels"]
    decide: Float[Tensor, "shares levels"]
    rise: Float[Tensor, "shares levels levels"]

    @classmethod
    def average(cls, parts: Sequence["StepCosts"], weights: Sequence[int]) -> "StepCosts":
        """Return the costs of several texts together.

        Args:
            parts: Costs on the same lattice, at least one.
            weights: Sequences behind each, at least one in all.

        Returns:
            The weighted averages.
        """
        shares = [weight / sum(weights) for weight in weights]
        pairs = list(zip(parts, shares, strict=True))
        decide = torch.stack([part.decide * share for part, share in pairs]).sum(0)
        rise = torch.stack([part.rise * share for part, share in pairs]).sum(0)
        return cls(parts[0].known, parts[0].snr, decide, rise)

    def refined(self, num_shares: int) -> "StepCosts":
        """Return the costs at more shares, between the measured ones by linear interpolation.

        Args:
            num_shares: Number of shares, `0, 1/n, ..., (n - 1)/n`; beyond the last measured share
                the costs are taken to be constant.

        Returns:
            A finer lattice, for paths of many steps.
        """
        known = torch.arange(num_shares, dtype=self.known.dtype) / num_shares
        place = torch.searchsorted(self.known, known, right=True) - 1
        after = (place + 1).clamp(max=len(self.known) - 1)
        gap = (self.known[after] - self.known[place]).clamp(min=torch.finfo(known.dtype).tiny)
        weight = ((known - self.known[place]) / gap).clamp(max=1)

        def between(values: Float[Tensor, "shares *rest"]) -> Float[Tensor, "finer *rest"]:
            share = weight.view(-1, *[1] * (values.ndim - 1))
            mixed = (1 - share) * values[place] + share * values[after]
            # Impossible steps are impossible at every share, and 0 · ∞ would give NaN.
            return mixed.masked_fill(values[place].isinf(), torch.inf)

        return StepCosts(known, self.snr, between(self.decide), between(self.rise))

    def best_path(self, num_steps: int) -> Interleaved:
        """Return the path of at most N steps on the lattice with the lowest finite-step bound.

        Args:
            num_steps: N, at least 1.

        Returns:
            The path. It is the best one for the text the costs were measured on.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        if num_steps < 1:
            raise ValueError(f"A path needs at least one step, not {num_steps}.")
        edges = self._edges()
        to_end = ((1 - self.known)[:, None] * self.decide).flatten()
        costs, choices = to_end, []
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
        return Interleaved((*shares, 1.0), (*levels, levels[-1]))

    def cost(self, path: Interleaved) -> float:
        """Return the expected finite-step bound of a path on the lattice, in nats per token.

        Args:
            path: A path whose knots are knots of the lattice.

        Returns:
            The sum of the measured costs of its steps.
        """
        shares, levels = self.known.tolist(), self.snr.tolist()
        nodes = [
            shares.index(share) * len(levels) + levels.index(level)
            for share, level in zip(path.known[:-1], path.snr[:-1], strict=True)
        ]
        edges = self._edges()
        last = (1 - path.known[-2]) * float(self.decide.flatten()[nodes[-1]])
        return last + sum(float(edges[a, b]) for a, b in pairwise(nodes))

    def _edges(self) -> Float[Tensor, "knots knots"]:
        """Cost of every step per token of the sequence: some tokens are decided, the rest rise."""
        num_shares, num_levels = self.decide.shape
        revealed = (self.known[None, :] - self.known[:, None])[:, None, :, None]
        decided = revealed * self.decide[:, :, None, None]
        risen = (1 - self.known)[None, None, :, None] * self.rise[:, :, None, :]
        edges = (decided + risen).masked_fill(revealed < 0, torch.inf)
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
) -> StepCosts:
    """Measure what steps between the knots of a lattice cost on a text.

    Args:
        denoiser: Gives the posterior.
        tokens: Sequences of training text.
        transition: Defines the costs of the steps.
        known: Shares of known tokens, from 0, increasing, below 1.
        snr: Values of γ, from 0, increasing, finite.
        generator: Source of the order of the tokens and of the channel's noise.
        given: Tokens that are always known, `-1` elsewhere: labels, which cost nothing.

    Returns:
        Unbiased averages over the text. One denoiser call per knot.
    """
    free = torch.ones_like(tokens, dtype=torch.bool) if given is None else given == UNKNOWN
    num_free = free.sum(-1, keepdim=True)
    codebook, (batch, length) = denoiser.codebook, tokens.shape
    decide = torch.empty(len(known), len(snr), dtype=torch.float64)
    rise = torch.full((len(known), len(snr), len(snr)), torch.inf, dtype=torch.float64)
    for s, share in enumerate(known.tolist()):
        for a, level in enumerate(snr.tolist()):
            order = random_ranks(free, generator)
            unknown = free & (order >= torch.round(share * num_free))
            levels = torch.full((batch, length), level, device=tokens.device)
            before = observe(codebook, tokens, levels.masked_fill(~unknown, torch.inf), generator)
            posterior = denoiser(before)
            decide[s, a] = -posterior.log_prob(tokens)[unknown].double().mean()
            rise[s, a, a] = 0.0
            after = before
            for b in range(a + 1, len(snr)):
                dsnr = torch.full_like(after.snr, float(snr[b] - snr[b - 1]))
                after = advance(codebook, after, tokens, dsnr, generator)
                cost = transition.cost(before, after, posterior, tokens)
                rise[s, a, b] = cost[unknown].double().mean()
    return StepCosts(known.double().cpu(), snr.double().cpu(), decide, rise)
