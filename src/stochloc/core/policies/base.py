"""How much SNR each token receives next.

A policy is asked before every step, with the state and the posterior at hand, and answers with the
step in γ of every token. Following a path is the policy that looks at neither; adaptive policies
look at both. The same policy object drives the free walk (sampling) and the guided walk (the
bound), so what is evaluated is what is sampled.

A policy may remember the walk so far, and it may ask for tokens to be rewound to a lower SNR before
a step. Neither spoils the bound: the step is a function of states that both walks visit, and the
rewinding kernel is the channel's own bridge, which knows nothing of the true token but what the
state already shows, so it is the same in both walks and cancels from the cost. The bound is looser
for it, because the way up is paid for again.

Corrector rounds (`core.policies.correctors`) are no steps of the policy: they take tokens back
after a step and bring them up to where they were. `bound` refuses them; every round would be paid
for in full.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stochloc.core.channel import State, rewind
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.paths.base import Path, Steps, most
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Round:
    """One corrector round: tokens are taken back and brought up again.

    Attributes:
        lower: The SNR to which tokens are taken; a token that shall stay has its own SNR.
        rises: Steps in γ that bring them up, each after a denoiser call of its own.
    """

    lower: Float[Tensor, "batch length"]
    rises: tuple[Float[Tensor, "batch length"], ...]


@runtime_checkable
class Rounds(Protocol):
    """Corrector rounds at work on one batch."""

    @property
    def number(self) -> int:
        """Rounds after every step."""
        ...

    def watch(self, before: State, posterior: Posterior, after: State) -> None:
        """Take note of a step of the walk, or of a rise in a round."""
        ...

    def plan(self, state: State, rows: Bool[Tensor, " batch"], generator: Randomness) -> Round:
        """Return the next round; the tokens of sequences not among `rows` stay."""
        ...


@dataclass(frozen=True)
class Answer:
    """What the denoiser and a policy say before a step.

    Attributes:
        posterior: The denoiser's answer.
        dsnr: The policy's: steps in γ, in `[0, ∞]`, 0 where a token is known.
        calls: Denoiser calls both took.
    """

    posterior: Posterior
    dsnr: Float[Tensor, "batch length"]
    calls: int


@dataclass(frozen=True)
class Pace:
    """A policy at work on one batch.

    Attributes:
        steps: How many steps it wants to take at most with every sequence.
        dsnr: Gives the step in γ of every token, `(B, L)`, in `[0, ∞]`, for step number n, the
            state before it and the posterior there; for a sequence that has taken its steps the
            answer is of no account.
        lower: Gives the SNR to which tokens are rewound before step number n, given the state;
            a token that shall stay gets its own SNR. Absent where nothing is ever rewound.
        floor: Evidence that is never rewound, the start of the walk; `z = 0` at `γ = 0` if absent.
        rounds: Corrector rounds after every step, if there are any.
        own_calls: Tells how many denoiser calls the policy has made so far beside the walk's.
    """

    steps: Steps
    dsnr: Callable[[int, State, Posterior], Float[Tensor, "batch length"]]
    lower: Callable[[int, State], Float[Tensor, "batch length"]] | None = None
    floor: State | None = None
    rounds: Rounds | None = None
    own_calls: Callable[[], int] = lambda: 0

    @property
    def num_steps(self) -> int:
        """Number of steps of the sequence that takes most."""
        return most(self.steps)

    def before(self, n: int, codebook: Codebook, state: State, generator: Randomness) -> State:
        """Return the state at which step number n begins: some tokens may have been rewound.

        Args:
            n: Number of the step; from its last decision on a sequence is not rewound.
            codebook: The token codes.
            state: Where the walk is.
            generator: Source of the bridge's noise.

        Returns:
            The state to ask the denoiser about. No denoiser call.
        """
        if self.lower is None or n == self.num_steps:
            return state
        target = torch.where(n < self.steps, self.lower(n, state), state.snr)
        return rewind(codebook, state, target, generator, self.floor)

    def ask(self, n: int, denoiser: Denoiser, state: State) -> Answer:
        """Ask the denoiser, then the policy, and count the calls.

        Args:
            n: Number of the step, from 0 to `num_steps`.
            denoiser: Asked once.
            state: Where the walk is.

        Returns:
            Posterior, steps and the calls they took.
        """
        posterior, before = denoiser(state), self.own_calls()
        dsnr = self.step(n, state, posterior).masked_fill(state.is_known, 0.0)
        return Answer(posterior, dsnr, posterior.calls + self.own_calls() - before)

    def step(self, n: int, state: State, posterior: Posterior) -> Float[Tensor, "batch length"]:
        """Return the step in γ of every token; after a sequence's last one, ∞, which decides it.

        Args:
            n: Number of the step, from 0 to `num_steps`.
            state: Where the walk is.
            posterior: The denoiser's answer there.

        Returns:
            Steps in `[0, ∞]`.
        """
        if n == self.num_steps:
            return torch.full_like(state.snr, torch.inf)
        return self.dsnr(n, state, posterior).masked_fill(n >= self.steps, torch.inf)


@runtime_checkable
class Policy(Protocol):
    """A rule that hands out SNR."""

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the rule at work on one batch, which may remember what it has seen."""
        ...


@dataclass(frozen=True)
class Follow:
    """Follow a path, whatever the denoiser says.

    Attributes:
        path: The path whose knots are visited.
    """

    path: Path

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
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
            rise = grid.snr(n + 1) - state.snr
            return rise.masked_fill(state.is_known, 0.0).clamp(min=0)

        return Pace(grid.steps, dsnr)
