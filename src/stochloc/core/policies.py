"""How much SNR each token receives next.

A policy is asked before every step, with the state and the posterior at hand, and answers with the
step in γ of every token. Following a path is the policy that looks at neither; adaptive policies
look at both. The same policy object drives the free walk (sampling) and the guided walk (the
bound), so what is evaluated is what is sampled: a step chosen from the present state alone keeps
the bound valid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoiser import Posterior
from stochloc.core.paths import Path


@dataclass(frozen=True)
class Pace:
    """A policy at work on one batch.

    Attributes:
        num_steps: How many steps it wants to take at most.
        dsnr: Gives the step in γ of every token, `(B, L)`, in `[0, ∞]`, for step number n, the
            state before it and the posterior there.
    """

    num_steps: int
    dsnr: Callable[[int, State, Posterior], Float[Tensor, "batch length"]]

    def step(self, n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
        """Return the step in γ of every token; after the last one, ∞, which decides what is left.

        Args:
            n: Number of the step, from 0 to `num_steps`.
            state: Where the walk is.
            posterior: The denoiser's answer there.

        Returns:
            Steps in `[0, ∞]`.
        """
        if n == self.num_steps:
            return torch.full_like(state.snr, torch.inf)
        return self.dsnr(n, state, posterior)


@runtime_checkable
class Policy(Protocol):
    """A rule that hands out SNR."""

    def start(self, state: State, num_steps: int, generator: torch.Generator) -> Pace:
        """Return the rule at work on one batch, which may remember what it has seen."""
        ...


@dataclass(frozen=True)
class Follow:
    """Follow a path, whatever the denoiser says.

    Attributes:
        path: The path whose knots are visited.
    """

    path: Path

    def start(self, state: State, num_steps: int, generator: torch.Generator) -> Pace:
        """Draw the knots and return the steps between them.

        Args:
            state: The start of the walk; tokens known there take no part, and a token that starts
                above γ = 0 waits until the path has caught up with it.
            num_steps: Steps wanted, at least 1.
            generator: Source of the path's random order.

        Returns:
            The pace, with as many steps as the path's grid has.

        Raises:
            ValueError: The path cannot be walked in so few steps.
        """
        grid = self.path.draw(num_steps, ~state.is_known, generator)

        def dsnr(n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
            target = torch.where(state.is_known, 0.0, grid.snr(n + 1))
            return (target - torch.where(state.is_known, 0.0, state.snr)).clamp(min=0)

        return Pace(grid.num_steps, dsnr)
