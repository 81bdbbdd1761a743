"""Denoisers made from denoisers: restricted to allowed tokens, or shown a wider text.

That token i lies in a set `A_i` is evidence like any other. The posterior weighs sequences by
`P(x) exp(Σ_i z_i·x_i)` with no γ in it (paper A.1). Let a vector `c_i` have `c_i·e_v = 0` inside
the set and `-M` outside; added to `z_i` it makes the weight `P(x) 1[x ∈ A] exp(Σ_i z_i·x_i)` for
large M, so the neighbours hear of the constraint too. Ruling tokens out of the answer alone would
leave each marginal as if the other positions were free.

Text beyond both ends is evidence of another kind: none. Tokens with `z = 0` average over all that
could stand there, which is what a marginal of a longer window is.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Reader, Tokens, read
from stochloc.core.denoisers.stretches import Stretch, within
from stochloc.core.denoisers.two_sided import Between, between

RULED_OUT_NATS = 30.0
UNEVEN_NATS = 1.0


@dataclass(frozen=True, eq=False)
class Constrained:
    """A denoiser that knows which tokens are allowed where, and never answers with another.

    With an exact denoiser it is exact, up to the weight `exp(-30)`, for codes that are affinely
    independent (the simplex). In fewer dimensions the neighbours are told by the nearest evidence
    there is, a heuristic, and as much weaker as it must be not to prefer one allowed token to
    another by more than 1 nat; alone among free positions, a constraint stays exact. With a
    learned denoiser all this is as good as the network. Made for codes that no longer change; the
    first call finds the evidence (`Codebook.nearest_evidence`).

    Attributes:
        denoiser: The denoiser to restrict.
        allowed: Which tokens each position may take, `(L, V)`, or `(B, L, V)` for each sequence.
    """

    denoiser: Denoiser
    allowed: Bool[Tensor, "*batch length vocabulary"]

    def __post_init__(self) -> None:
        empty = (~self.allowed.any(-1)).nonzero()
        if len(empty):
            raise ValueError(f"No token is allowed at position {int(empty[0, -1])}.")

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @cached_property
    def evidence(self) -> Float[Tensor, "*batch length dim"]:
        """The vectors `c` that speak against all tokens outside the sets, at most by 30 nats."""
        nearest = self.codebook.nearest_evidence(self.allowed.to(self.codebook.one))
        heard = self.codebook.evidence(nearest)
        highest = heard.masked_fill(~self.allowed, -torch.inf).amax(-1, keepdim=True)
        lowest = heard.masked_fill(~self.allowed, torch.inf).amin(-1, keepdim=True)
        return nearest * (UNEVEN_NATS / (highest - lowest)).clamp(max=RULED_OUT_NATS)

    @property
    def between(self) -> Between | None:
        """The answers from two sides given the constraint; one call of the wrapped denoiser.

        What is said of a token holds the constraints of all, its own included.
        """
        sides = between(self.denoiser)
        if sides is None:
            return None

        def answer(left: State, right: State) -> Posterior:
            told = [replace(side, z=side.z + self._evidence_at(side)) for side in (left, right)]
            none = torch.zeros_like(left.z[..., :1])

            def weights(start: int, stop: int) -> Float[Tensor, "batch length block"]:
                return none.masked_fill(~self._allowed_at(left, start, stop), -torch.inf)

            return sides(*told).reweighted_by(weights)

        return answer

    def read(self, state: State) -> Reader | None:
        """Return the wrapped denoiser's reader given the constraint."""
        reader = read(self.denoiser, replace(state, z=state.z + self._evidence_at(state)))
        if reader is None:
            return None
        ruled_out = torch.zeros_like(self.allowed, dtype=state.z.dtype)
        ruled_out = ruled_out.masked_fill(~self.allowed, -torch.inf)
        return _Obeying(reader, ruled_out.expand(*state.known.shape, -1))

    def within(self, state: State, stretch: Stretch) -> Denoiser:
        """Return the same constraint of what the wrapped denoiser becomes in a stretch."""
        told = replace(state, z=state.z + self._evidence_at(state))
        kept = replace(self, denoiser=within(self.denoiser, told, stretch))
        vars(kept)["evidence"] = self.evidence  # Found once: for large codebooks it is a search.
        return kept

    def __call__(self, state: State) -> Posterior:
        """Return the posterior given the constraint; one call of the wrapped denoiser.

        Args:
            state: Noisy codes and known tokens.

        Returns:
            The posterior, with probability 0 outside the sets.

        Raises:
            ValueError: A known token is not allowed.
        """
        evidence = self._evidence_at(state)
        posterior = self.denoiser(replace(state, z=state.z + evidence))
        return posterior.reweighted_by(partial(self._weights, state, evidence))

    def _weights(
        self, state: State, evidence: Float[Tensor, "batch length dim"], start: int, stop: int
    ) -> Float[Tensor, "batch length block"]:
        # Each position takes its own evidence back and obeys the constraint itself.
        outside = ~self._allowed_at(state, start, stop)
        own = self.codebook.evidence_for(evidence, start, stop)
        return -own.masked_fill(outside, torch.inf)

    def _allowed_at(self, state: State, start: int, stop: int) -> Bool[Tensor, "batch length some"]:
        """Return whether each place may hold the tokens from `start` up to `stop`."""
        return self.allowed[..., start:stop].expand(*state.known.shape, -1)

    def _evidence_at(self, state: State) -> Float[Tensor, "batch length dim"]:
        """Return the constraint as evidence, 0 where the token is known, which must be allowed."""
        allowed = self.allowed.expand(*state.known.shape, -1)
        is_allowed = allowed.gather(-1, state.known.clamp(min=0)[..., None]).squeeze(-1)
        wrong = (state.is_known & ~is_allowed).nonzero()
        if len(wrong):
            raise ValueError(
                f"The token known at position {int(wrong[0, -1])} is not among those allowed there."
            )
        return self.evidence.to(state.z) * ~state.is_known[..., None]


class _Obeying:
    """A reader that never answers with a token that is not allowed at the place."""

    def __init__(
        self, reader: Reader, log_weights: Float[Tensor, "batch length vocabulary"]
    ) -> None:
        self.reader, self.log_weights, self.place = reader, log_weights, 0

    def next(self, tokens: Tokens) -> Posterior:
        """Return the wrapped reader's answer, restricted to what is allowed at its place."""
        self.place += tokens.shape[1]
        weights = self.log_weights[:, self.place : self.place + 1]
        return self.reader.next(tokens).reweighted(weights)
