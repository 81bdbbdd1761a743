"""Muon: the weights of linear layers step along their averaged gradient made orthogonal.

A linear layer is a map, and what a step `W` changes of its outputs is bounded by the largest
singular value of `W`. Among all steps with `|W|_2 <= 1` the averaged gradient `M = U S V'` says
that most is gained, to first order, by

    argmax_W <M, W> = U V',

all of whose singular values are 1: directions with a small gradient move as far as those with a
large one. Five Newton-Schulz iterations in bfloat16 come close to `U V'`, at the cost of 15
products of the size of the weights, whatever the batch is. Times `0.2 √max(n, m)` the entries of
an `n × m` step have the root mean square of AdamW's usual steps, so one learning rate serves both:
embeddings, heads, scales and biases, which are no maps of hidden states, remain AdamW's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stochloc.training.optimizers.adamw import AdamW


class MuonAndAdamW(torch.optim.Optimizer):
    """Torch's Muon for some parameters and its AdamW for the others, as one optimizer.

    Args:
        muon: Muon of the weights of linear layers.
        adamw: AdamW of all else. Both give their groups and their state to this optimizer.
    """

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        super().__init__([*muon.param_groups, *adamw.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the parameters by their gradients."""
        loss = None if closure is None else closure()
        # Anew before every step: loading a state replaces both groups and state.
        first = len(self.muon.param_groups)
        parts = (self.muon, self.param_groups[:first]), (self.adamw, self.param_groups[first:])
        for part, groups in parts:
            part.param_groups, part.state = groups, self.state
            part.step()
        return loss


@dataclass(frozen=True)
class Muon:
    """Muon (Jordan et al. 2024), scaled to AdamW's steps (Liu et al. 2025).

    Attributes:
        momentum: Decay of the average gradient, of which Nesterov's is taken.
        others: The optimizer of all parameters but the weights of linear layers.
    """

    momentum: float = 0.95
    others: AdamW = field(default_factory=AdamW)

    def make(
        self,
        groups: list[dict[str, Any]],
        linear: set[Tensor],
        learning_rate: float,
        beta2: float,
        is_fused: bool,
    ) -> torch.optim.Optimizer:
        """Return Muon and AdamW as one: see `OptimizerFamily`."""
        muon = torch.optim.Muon(
            _parts(groups, linear, are_in=True),
            lr=learning_rate,
            momentum=self.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        of_others = _parts(groups, linear, are_in=False)
        adamw = self.others.make(of_others, set(), learning_rate, beta2, is_fused)
        assert isinstance(adamw, torch.optim.AdamW)
        return MuonAndAdamW(muon, adamw)

    def moments(self, shape: torch.Size, is_linear: bool) -> dict[str, torch.Size]:
        """Return the shape of the average gradient, or what AdamW keeps."""
        return {"momentum_buffer": shape} if is_linear else self.others.moments(shape, is_linear)


def _parts(groups: list[dict[str, Any]], linear: set[Tensor], are_in: bool) -> list[dict[str, Any]]:
    """Return what is in the set, or what is not, of every group that has any; or an empty group."""
    parts = [
        {**group, "params": [own for own in group["params"] if (own in linear) == are_in]}
        for group in groups
    ]
    # Torch cannot gather the state of an optimizer with two empty groups, as frozen parts leave.
    return [part for part in parts if part["params"]] or parts[:1]
