"""How much SNR each token receives next.

Before every step a policy is given the state and the posterior, and returns the step in γ of every
token. The policy that follows a path uses neither; adaptive policies use both. The same policy
object drives the free walk (sampling) and the guided walk (the bound), so the bound holds for the
sampler that is run.

A policy may remember the walk so far, and may rewind tokens to a lower SNR before a step. The bound
remains valid: the step is a function of states that both walks visit, and the rewinding kernel is
the channel's own bridge, which depends on the true token only through the state, so it is the same
in both walks and cancels from the cost. The bound becomes looser, because the cost of raising a
token is counted again.

Corrector rounds (`core.policies.correctors`) are not steps of the policy: they rewind tokens after
a step and raise them to the SNR they had. `bound` refuses them; the full cost of every round would
be counted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import State, rewind
from stochloc.core.checks import check_kind
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.paths.base import Grid, Path, Steps, check_path, most
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Round:
    """One corrector round: tokens are rewound and raised again.

    Attributes:
        lower: The SNR to which tokens are rewound; the current SNR of tokens that stay.
        rises: Steps in γ that raise them, each after its own denoiser call.
    """

    lower: Float[Tensor, "batch length"]
    rises: tuple[Float[Tensor, "batch length"], ...]


@runtime_checkable
class Rounds(Protocol):
    """Corrector rounds for one batch."""

    @property
    def number(self) -> int:
        """Rounds after every step."""
        ...

    def watch(self, before: State, posterior: Posterior, after: State) -> None:
        """Record a step of the walk, or a rise in a round."""
        ...

    def plan(self, state: State, rows: Bool[Tensor, " batch"], generator: Randomness) -> Round:
        """Return the next round; the tokens of sequences not among `rows` stay."""
        ...


@dataclass(frozen=True)
class Answer:
    """The posterior and the policy's decision before a step.

    Attributes:
        posterior: The denoiser's posterior.
        dsnr: The policy's steps in γ, in `[0, ∞]`, 0 where a token is known.
        calls: Denoiser calls made for both.
    """

    posterior: Posterior
    dsnr: Float[Tensor, "batch length"]
    calls: int


@dataclass(frozen=True)
class Pace:
    """A policy started on one batch.

    Attributes:
        steps: The largest number of steps of every sequence.
        dsnr: Returns the step in γ of every token, `(B, L)`, in `[0, ∞]`, given the number n of the
            step, the state before it and the posterior there; the values of sequences that have
            taken all their steps are ignored.
        lower: Returns the SNR to which tokens are rewound before step number n, given the state;
            the current SNR of tokens that stay. None if tokens are never rewound.
        floor: Evidence that is never rewound, the start of the walk; `z = 0` at `γ = 0` if None.
        revise: Returns the state at which step number n begins, given the codes and the state after
            the step before, by a rule without draws; None for policies whose steps stand.
        rounds: Corrector rounds after every step, if any.
        own_calls: Returns the number of denoiser calls that the policy itself has made so far.
        unmasks_by_rule: Whether every step takes tokens from where they are to ∞ or leaves them
            there, and which ones follows from the state and the posterior with no draw. The bound
            of such a walk is exact.
        one_by_one: The step that decides each free token, where every step takes one token from
            wherever it is to ∞ and nothing else, whatever the posteriors (`Grid.one_by_one`).
    """

    steps: Steps
    dsnr: Callable[[int, State, Posterior], Float[Tensor, "batch length"]]
    lower: Callable[[int, State], Float[Tensor, "batch length"]] | None = None
    floor: State | None = None
    revise: Callable[[int, Codebook, State], State] | None = None
    rounds: Rounds | None = None
    own_calls: Callable[[], int] = lambda: 0
    unmasks_by_rule: bool = False
    one_by_one: Int[Tensor, "batch length"] | None = None

    @property
    def num_steps(self) -> int:
        """Number of steps of the sequence that takes most."""
        return most(self.steps)

    def before(self, n: int, codebook: Codebook, state: State, generator: Randomness) -> State:
        """Return the state at which step number n begins: some tokens may have been taken back.

        Args:
            n: Number of the step; from its last decision on a sequence is not rewound.
            codebook: The token codes.
            state: Where the walk is.
            generator: Source of the bridge's noise.

        Returns:
            The state at which the denoiser is called. No denoiser call is made here.
        """
        if n == self.num_steps:
            return state
        if self.revise is not None:
            state = self.revise(n, codebook, state)
        if self.lower is None:
            return state
        target = torch.where(n < self.steps, self.lower(n, state), state.snr)
        return rewind(codebook, state, target, generator, self.floor)

    def ask(self, n: int, denoiser: Denoiser, state: State) -> Answer:
        """Call the denoiser, then the policy, and count the calls.

        Args:
            n: Number of the step, from 0 to `num_steps`.
            denoiser: Called once.
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
            posterior: The denoiser's posterior there.

        Returns:
            Steps in `[0, ∞]`.
        """
        if n == self.num_steps:
            return torch.full_like(state.snr, torch.inf)
        return self.dsnr(n, state, posterior).masked_fill(n >= self.steps, torch.inf)


@runtime_checkable
class Policy(Protocol):
    """A rule that allocates SNR."""

    def start(self, state: State, num_steps: int, generator: Randomness) -> Pace:
        """Return the rule at work on one batch, which may remember what it has seen.

        Args:
            state: The start of the walk; tokens known there receive no SNR.
            num_steps: Steps requested, at least 1, one number for all sequences.
            generator: The only source of randomness, if any is needed.

        Returns:
            The pace; its sequences may take different numbers of steps.

        Raises:
            ValueError: `num_steps` is below 1.
        """
        ...


def check_policy(value: object) -> None:
    """Refuse, with a `ValueError`, what is not a policy."""
    check_kind(value, Policy, "A policy", "; to walk along a path, write Follow(path)")


@dataclass(frozen=True)
class Follow:
    """Follow a path, whatever the posteriors.

    Attributes:
        path: The path whose knots are visited.
    """

    path: Path

    def __post_init__(self) -> None:
        check_path(self.path)

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
        return Pace(
            grid.steps,
            partial(_to_next_knot, grid),
            unmasks_by_rule=self.path.unmasks_by_rule,
            one_by_one=grid.one_by_one,
        )


def _to_next_knot(
    grid: Grid, n: int, state: State, posterior: Posterior
) -> Float[Tensor, "batch length"]:
    rise = grid.snr(n + 1) - state.snr
    return rise.masked_fill(state.is_known, 0.0).clamp(min=0)
