"""Which signal-to-noise ratios to train on.

The best denoiser is the same at every γ, but a network learns it where it is shown data. Each law
here draws a γ for every token of a batch and is a small value; a new law is a new class. Draws are
stratified over the batch, so that every batch covers the law evenly and the loss is less noisy.

The paper draws one log-normal γ for a sentence (B.1, C.2). Paths other than diffusion need tokens
at different γ side by side, and both endpoints: a γ of its own for every token, with a share of the
tokens moved to 0 or ∞, trains all of them at once.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.numerics import draw_uniform
from stochloc.nn.declared import check_types

Snr = Float[Tensor, "batch length"]


@runtime_checkable
class SnrLaw(Protocol):
    """A distribution of the SNRs of a batch of sequences."""

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return γ of every token, in `[0, ∞]`."""
        ...


@dataclass(frozen=True)
class SentenceLogNormal:
    """One log-normal γ for all tokens of a sequence: the paper's law.

    Attributes:
        mean: Mean of `ln γ`; the paper's authors use 1.4.
        sigma: Standard deviation of `ln γ`; the paper's authors use 0.55.
    """

    mean: float = 1.4
    sigma: float = 0.55

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return one γ per sequence, at stratified quantiles over the batch."""
        normal = torch.special.ndtri(_stratified((batch, 1), generator))
        return torch.exp(self.mean + self.sigma * normal).expand(batch, length)


@dataclass(frozen=True)
class TokenLogNormal:
    """A log-normal γ of its own for every token.

    Attributes:
        mean: Mean of `ln γ`. Clearer neighbours teach a young network sooner what context is: a
            median of 5 is ahead of 3, and 3 of 2, after some hundred updates.
        sigma: Standard deviation of `ln γ`.
    """

    mean: float = math.log(5.0)
    sigma: float = 1.2

    def __post_init__(self) -> None:
        _check_sigma(self.sigma)

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return independent-looking γ, at stratified quantiles over all tokens of the batch."""
        normal = torch.special.ndtri(_stratified((batch, length), generator))
        return torch.exp(self.mean + self.sigma * normal)


@dataclass(frozen=True)
class Endpoints:
    """Another law with a random share of the tokens moved to `γ = 0` or `γ = ∞`.

    For each sequence a share `p ~ U(0, 1)` of the tokens is moved, and of those a share
    `q ~ U(0, 1)` to ∞, the rest to 0: what masked and autoregressive paths will ask about.

    Attributes:
        inside: The law of the tokens that are not moved.
    """

    inside: SnrLaw

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return the inner law's γ with tokens moved; p is stratified over the batch."""
        snr = self.inside.draw(batch, length, generator)
        moved_share = _stratified((batch, 1), generator)
        known_share = _stratified((batch, 1), generator)
        moved = draw_uniform((batch, length), generator) < moved_share
        to_known = draw_uniform((batch, length), generator) < known_share
        endpoint = torch.zeros_like(snr).masked_fill(to_known, torch.inf)
        return torch.where(moved, endpoint, snr)


@dataclass(frozen=True)
class Masks:
    """Every token at an endpoint: known with a probability `t ~ U(0, 1)` per sequence, else masked.

    The law of masked diffusion; t is stratified over the batch.
    """

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return 0 or ∞ for every token."""
        known_share = _stratified((batch, 1), generator)
        known = draw_uniform((batch, length), generator) < known_share
        return torch.zeros_like(known, dtype=known_share.dtype).masked_fill(known, torch.inf)


@dataclass(frozen=True)
class Mixture:
    """Each sequence follows one of two laws.

    Attributes:
        first: One law.
        second: The other law.
        share: Expected share of the sequences that follow `second`, in `[0, 1]`.
    """

    first: SnrLaw
    second: SnrLaw
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"The share of a mixture must lie in [0, 1], not {self.share}.")

    def draw(self, batch: int, length: int, generator: torch.Generator) -> Snr:
        """Return a batch in which as near as possible to `share` of the rows are `second`'s."""
        second = _stratified((batch, 1), generator) < self.share
        return torch.where(
            second,
            self.second.draw(batch, length, generator),
            self.first.draw(batch, length, generator),
        )


LAWS = (SentenceLogNormal, TokenLogNormal, Endpoints, Masks, Mixture)


def law_to_dict(law: SnrLaw) -> dict[str, Any]:
    """Return a law as JSON values: its class name and its attributes.

    Args:
        law: One of the laws of this module.

    Returns:
        A dictionary that `law_from_dict` turns back.
    """
    values = {f.name: getattr(law, f.name) for f in fields(cast(Any, law))}
    inner = {k: v if isinstance(v, float) else law_to_dict(v) for k, v in values.items()}
    return {"law": type(law).__name__, **inner}


def law_from_dict(values: dict[str, Any]) -> SnrLaw:
    """Return the law that `law_to_dict` described.

    Args:
        values: The class name under "law" and the attributes.

    Returns:
        The law.

    Raises:
        ValueError: There is no such law.
    """
    known: dict[str, Any] = {law.__name__: law for law in LAWS}
    if not isinstance(values, dict) or values.get("law") not in known:
        raise ValueError(f"Unknown law of γ {str(values)[:200]}; known are {', '.join(known)}.")
    inner = {
        k: law_from_dict(v) if isinstance(v, dict) else v for k, v in values.items() if k != "law"
    }
    law = known[values["law"]](**inner)
    check_types(law)
    return law


def _stratified(shape: tuple[int, int], generator: torch.Generator) -> Snr:
    """Uniforms in `(0, 1)`, one in each of as many equal strata as there are, in random order."""
    count = shape[0] * shape[1]
    order = torch.randperm(count, generator=generator, device=generator.device)
    u = (order + draw_uniform((count,), generator)) / count
    return u.clamp(1e-12, 1 - 1e-12).view(shape)


def _check_sigma(sigma: float) -> None:
    if not sigma > 0:
        raise ValueError(f"The spread of ln γ must be positive, not {sigma}.")
