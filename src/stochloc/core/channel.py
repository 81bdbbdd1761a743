"""The noise channel `z = γ x + √γ ε` (paper 2), in both directions of γ.

The channel is Brownian motion with drift `x`, run for a "time" γ of its own per token, so its
increments are independent Gaussians: for `γ' ≥ γ`

    z_γ' = z_γ + (γ' - γ) x + √(γ' - γ) ε.

Going down needs no model: given `z_γ'`, the walk below γ' is a Brownian bridge from 0,

    z_γ = (γ/γ') z_γ' + √(γ (γ' - γ) / γ') ε,

whatever the token. A walk that began with evidence, `z_0` at `γ_0`, keeps it: what was added since
is a channel of its own, so the bridge starts there,

    z_γ = z_0 + (γ - γ_0)/(γ' - γ_0) (z_γ' - z_0) + √((γ - γ_0) (γ' - γ) / (γ' - γ_0)) ε.

At `γ = ∞` a token is known exactly; it is stored as a token, never as a large
number, and `z` is 0 there by convention and never read. The limits of both formulas are exact: a
step to ∞ reveals the token, and `γ' = ∞` in the bridge gives back the channel,
`z_γ = z_0 + (γ - γ_0) x + √(γ - γ_0) ε`.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.checks import check_tokens
from stochloc.core.codebook import Codebook
from stochloc.core.numerics import draw_normal_like
from stochloc.core.streams import PartOfBatch, Randomness, among

UNKNOWN = -1


@dataclass(frozen=True)
class State:
    """The state of a walk: what is known about a batch of sequences.

    Attributes:
        z: Noisy codes; 0 where a token is known.
        known: The token where it is known (`γ = ∞`), `UNKNOWN = -1` elsewhere.
        snr: Signal-to-noise ratio γ of every token, in `[0, ∞]`, dimensionless. No denoiser may
            read it; policies and plots do.
    """

    z: Float[Tensor, "batch length dim"]
    known: Int[Tensor, "batch length"]
    snr: Float[Tensor, "batch length"]

    @property
    def is_known(self) -> Bool[Tensor, "batch length"]:
        """Where the token is known exactly."""
        return self.known != UNKNOWN

    @property
    def is_finished(self) -> bool:
        """Whether every token of every sequence is known."""
        return bool(self.is_known.all())

    def reveal(
        self, tokens: Int[Tensor, "batch length"], where: Bool[Tensor, "batch length"]
    ) -> "State":
        """Return the state in which `tokens` are known at the places `where`.

        Args:
            tokens: Token indices; read only at `where`.
            where: The places that become known.

        Returns:
            A new state; places already known elsewhere keep their token.
        """
        return State(
            z=torch.where(where[..., None], 0.0, self.z),
            known=torch.where(where, tokens, self.known),
            snr=torch.where(where, torch.inf, self.snr),
        )

    def cropped(self, start: int, stop: int) -> "State":
        """Return the state of the tokens from `start` up to `stop`.

        Args:
            start: The first position kept.
            stop: The first position after those kept.

        Returns:
            The state of `stop - start` tokens.
        """
        here = slice(start, stop)
        return State(self.z[:, here], self.known[:, here], self.snr[:, here])

    def one_if_alike(self) -> "State":
        """Return the state of the first sequence if a denoiser sees no difference between them.

        Returns:
            A state of one sequence if all have the same `z` and known tokens, otherwise this one.
        """
        one = State(self.z[:1], self.known[:1], self.snr[:1])
        is_alike = (self.known == one.known).all() and (self.z == one.z).all()
        return one if bool(is_alike) else self

    def forget(self, where: Bool[Tensor, "batch length"]) -> "State":
        """Return the state that knows nothing, `z = 0` at `γ = 0`, at the places `where`.

        Args:
            where: The places whose evidence is removed.

        Returns:
            A new state; the other places are as they were.
        """
        return State(
            z=torch.where(where[..., None], 0.0, self.z),
            known=torch.where(where, UNKNOWN, self.known),
            snr=torch.where(where, 0.0, self.snr),
        )


def start(
    codebook: Codebook,
    batch: int,
    length: int,
    known: Int[Tensor, "batch length"] | None = None,
) -> State:
    """Return the state without evidence, `z = 0` at `γ = 0`, except for tokens given in advance.

    Args:
        codebook: Gives the dimension, floating type and device of `z`.
        batch: Number of sequences, B.
        length: Number of tokens of each, L.
        known: Tokens that are known from the start (a prompt), `-1` elsewhere.

    Returns:
        The start of a walk.

    Raises:
        ValueError: `known` holds a number that is neither a token of the vocabulary nor `-1`.
    """
    if known is not None:
        check_tokens(codebook, known, lowest=UNKNOWN)
    z = codebook.one.new_zeros(batch, length, codebook.dimension)
    unknown = torch.full((batch, length), UNKNOWN, dtype=torch.long, device=z.device)
    state = State(z, unknown, torch.zeros(batch, length, dtype=z.dtype, device=z.device))
    return state if known is None else state.reveal(known, known != UNKNOWN)


def observe(
    codebook: Codebook,
    tokens: Int[Tensor, "batch length"],
    snr: Float[Tensor, "batch length"],
    generator: Randomness,
) -> State:
    """Draw `z ~ N(γ x, γ I)` for every token (paper 2); exact.

    Args:
        codebook: The token codes.
        tokens: The true tokens, in `[0, V)`.
        snr: γ of every token, in `[0, ∞]`; a token at ∞ is known.
        generator: Source of the noise.

    Returns:
        The observed state.
    """
    batch, length = tokens.shape
    return advance(codebook, start(codebook, batch, length), tokens, snr, generator)


def advance(
    codebook: Codebook,
    state: State,
    tokens: Int[Tensor, "batch length"],
    dsnr: Float[Tensor, "batch length"],
    generator: Randomness,
) -> State:
    """Move a state up the conditional dynamics (paper eq. 1) by `dsnr` per token; exact.

    Args:
        codebook: The token codes.
        state: Where to start.
        tokens: The true tokens, in `[0, V)`.
        dsnr: Steps in γ, in `[0, ∞]`; ∞ reveals the token. Ignored where a token is known.
        generator: Source of the noise.

    Returns:
        The state at `γ + dsnr`.
    """
    return walk_towards(state, codebook.encode(tokens), dsnr, generator).reveal(
        tokens, dsnr.isinf() & ~state.is_known
    )


def walk_towards(
    state: State,
    drift: Float[Tensor, "batch length dim"],
    dsnr: Float[Tensor, "batch length"],
    generator: Randomness,
) -> State:
    """Move `z` by `drift · dγ + √dγ ε` where `dγ` is finite; steps of ∞ are left to the caller.

    Args:
        state: Where to start; known tokens stay as they are.
        drift: Mean of `dz/dγ`: the code of a token, or a denoiser's mean of it.
        dsnr: Steps in γ, in `[0, ∞]`.
        generator: Source of the noise.

    Returns:
        The moved state; tokens with an infinite step are unchanged.
    """
    finite = torch.where(dsnr.isinf() | state.is_known, 0.0, dsnr).to(state.z)
    # Other devices would be waited for, and all parts of a batch make the same draws: noise that no
    # token takes changes nothing.
    may_skip = finite.is_cpu and not isinstance(generator, PartOfBatch)
    if may_skip and not bool(finite.any()):
        return state
    noise = draw_normal_like(state.z, among(generator, finite.any(-1)))
    step = finite[..., None]
    return replace(state, z=state.z + step * drift + step.sqrt() * noise, snr=state.snr + finite)


def rewind(
    codebook: Codebook,
    state: State,
    snr: Float[Tensor, "batch length"],
    generator: Randomness,
    floor: State | None = None,
) -> State:
    """Move a state down to a lower signal-to-noise ratio; exact, without a model.

    Args:
        codebook: The token codes, read where a known token becomes uncertain again.
        state: Where to start.
        snr: The γ to go down to, in `[0, ∞]`; where it is not below `state.snr` nothing changes.
        generator: Source of the noise.
        floor: The state in which the walk to `state` began; its evidence is kept, and no token goes
            below its γ. None if the walk began without evidence, `z = 0` at `γ = 0`.

    Returns:
        The state at `min(max(snr, floor.snr), state.snr)`, distributed as the channel that started
        from the floor.
    """
    if floor is None:
        batch, length = state.known.shape
        floor = start(codebook, batch, length)
    lower = torch.maximum(snr, floor.snr) < state.snr
    begin = torch.where(lower, floor.snr, 0.0).to(state.z)
    rise = torch.where(lower, snr - begin, 0.0).clamp(min=0).to(state.z)
    # With γ' = ∞ the bridge is the channel: the share vanishes, the mean is that of a known token.
    share = rise / torch.where(lower, state.snr - begin, 1.0)
    codes = codebook.encode(state.known.clamp(min=0))
    moved = torch.where(
        state.is_known[..., None],
        rise[..., None] * codes,
        share[..., None] * (state.z - floor.z),
    )
    spread = (rise * (1 - share)).sqrt()
    noise = draw_normal_like(state.z, among(generator, lower.any(-1)))
    z = floor.z + moved + spread[..., None] * noise
    return State(
        z=torch.where(lower[..., None], z, state.z),
        known=torch.where(lower, UNKNOWN, state.known),
        snr=torch.where(lower, begin + rise, state.snr),
    )
