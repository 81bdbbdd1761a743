"""A denoiser that remembers its last call, so that its directional derivative costs little more.

Forward-mode differentiation carries a tangent along with every value. The values were computed a
moment ago, by the call whose answer is the direction; what costs most of them, the outputs of
linear maps, attention and normalisation, is kept from that call, and the second pass computes
tangents alone:

    y = x Wᵀ:                      ẏ = ẋ Wᵀ
    o = P v, P = softmax(q kᵀ c):  ȯ = (P∘Ṡ) v - rowsum(P∘Ṡ) o + P v̇,   Ṡ = c (q̇ kᵀ + q k̇ᵀ),
    n = (x - mean x)/σ(x):         ṅ = (ẋ - mean ẋ - n mean(n ẋ))/σ(x)   (layer normalisation).

The rest is left to torch, which has no forward mode of fused attention.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.two_sided import Between, between


class Linearised:
    """A denoiser with directional derivatives; its answers are those of the denoiser it wraps.

    Args:
        denoiser: The denoiser; torch must be able to differentiate it in forward mode.

    Attributes:
        calls: Calls of the denoiser so far, for answers and for derivatives.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.calls = 0
        self._outputs: list[Tensor] = []
        self._state: State | None = None

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    @property
    def between(self) -> Between | None:
        """The wrapped denoiser's answers from two sides, which are not remembered; one call."""
        sides = between(self.denoiser)
        if sides is None:
            return None

        def answer(left: State, right: State) -> Posterior:
            posterior = sides(left, right)
            self.calls += posterior.calls
            return posterior

        return answer

    def __call__(self, state: State) -> Posterior:
        """Return the wrapped denoiser's posterior; one call of it."""
        with _Record() as record:
            posterior = self.denoiser(state)
        self.calls += posterior.calls
        self._outputs, self._state = record.outputs, state
        return posterior

    def derivative(
        self, state: State, direction: Float[Tensor, "batch length dim"]
    ) -> Float[Tensor, "batch length dim"]:
        """Return `(direction·∇) x̂` at a state, by forward-mode differentiation; exact.

        Args:
            state: Where to differentiate; cheapest if it is the one the denoiser was asked last.
            direction: Direction in z.

        Returns:
            The change of the denoised codes per unit of the direction. One call more, of one to
            two calls' time.
        """
        if self._state is not state:
            self(state)
        with forward_ad.dual_level(), _Replay(iter(self._outputs)):
            z = forward_ad.make_dual(state.z, direction.to(state.z))
            posterior = self.denoiser(replace(state, z=z))
            self.calls += posterior.calls
            x_hat = posterior.mean
            tangent = forward_ad.unpack_dual(x_hat).tangent
            return torch.zeros_like(x_hat) if tangent is None else tangent


class _Record(TorchFunctionMode):
    """Keeps the outputs of functions whose tangents are known here, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        output = func(*args, **(kwargs or {}))
        if func in _TANGENTS:
            self.outputs.append(output)
        return output


class _Replay(TorchFunctionMode):
    """Pairs the kept outputs with their tangents."""

    def __init__(self, outputs: Iterator[Tensor]) -> None:
        super().__init__()
        self.outputs = outputs

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func not in _TANGENTS:
            return func(*args, **(kwargs or {}))
        output = next(self.outputs, None)
        # What was not computed by the call itself, but by a question to its posterior, is not kept.
        if output is None:
            return func(*args, **(kwargs or {}))
        return forward_ad.make_dual(output, _TANGENTS[func](output, *args, **(kwargs or {})))


def _linear_tangent(
    output: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    return F.linear(_split(x)[1], weight)


def _attention_tangent(
    output: Tensor, query: Tensor, key: Tensor, value: Tensor, is_causal: bool
) -> Tensor:
    (q, dq), (k, dk), (v, dv) = _split(query), _split(key), _split(value)
    scale = 1 / math.sqrt(q.shape[-1])
    scores = scale * q @ k.transpose(-1, -2)
    if is_causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    probs = scores.softmax(-1)
    # Two products at once: [q̇, q]·[k, k̇] and [P∘Ṡ, P]·[v; v̇].
    dscores = torch.cat([dq, q], -1) @ (scale * torch.cat([k, dk], -1)).transpose(-1, -2)
    dprobs = probs * dscores
    moved = torch.cat([dprobs, probs], -1) @ torch.cat([v, dv], -2)
    return moved - dprobs.sum(-1, keepdim=True) * output


def _layer_norm_tangent(
    output: Tensor,
    x: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    x, dx = _split(x)
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    inverse_sigma = (centred.square().mean(dims, keepdim=True) + eps).rsqrt()
    unit = centred * inverse_sigma
    along = (unit * dx).mean(dims, keepdim=True)
    moved = inverse_sigma * (dx - dx.mean(dims, keepdim=True) - unit * along)
    return moved if weight is None else moved * weight


_TANGENTS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.linear: _linear_tangent,
    F.scaled_dot_product_attention: _attention_tangent,
    F.layer_norm: _layer_norm_tangent,
}


def _split(dual: Tensor) -> tuple[Tensor, Tensor]:
    primal, tangent = forward_ad.unpack_dual(dual)
    return primal, torch.zeros_like(primal) if tangent is None else tangent
