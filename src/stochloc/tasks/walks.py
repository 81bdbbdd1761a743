"""How to walk: by name, as in commands and reports, and resolved for a run.

`WalkSettings` holds names and numbers only, so that flags and reports can express it.
`WalkSettings.resolve` turns it into a `Walk`, which holds the objects themselves; code with objects
of its own creates a `Walk` directly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.core import (
    Autoregressive,
    Denoiser,
    Estimate,
    Masked,
    Nucleus,
    Path,
    Policy,
    Randomness,
    Sample,
    State,
    Step,
    Sweep,
    Transition,
    between,
    bound,
    left_to_right,
    localize,
    sample,
    sample_left_to_right,
)
from stochloc.tasks.paths import named_transition
from stochloc.tasks.policies import FOLLOW_THE_PATH, PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.tasks.tuned import path_for


def default_path(num_steps: int, run: Run, length: int) -> str:
    """Return the path that a command walks when the user names none.

    Args:
        num_steps: Steps of the walk.
        run: The model.
        length: Tokens of a text.

    Returns:
        From left to right at many places at once where the model is two-sided: it has learned that
        order best (docs/results/walks.md). Else spread groups where a step decides several tokens,
        and random order, one token at a time, where none does.
    """
    if between(run.model) is not None:
        return "sweep"
    return "spread" if num_steps < length else "masked"


def default_steps(path: str | None, run: Run, length: int) -> int:
    """Return the steps that a command walks when the user names none.

    Args:
        path: Name of the path; None if the user names none either.
        run: The model.
        length: Tokens of a text.

    Returns:
        One for every token from left to right where the model is two-sided: then the likelihood
        along that path is exact and takes one call, and a sample costs one place a step. Else 64.
    """
    reads = path == "autoregressive" and between(run.model) is not None
    return length if reads else WalkSettings.num_steps


def path_and_steps(path: str | None, steps: int | None, run: Run, length: int) -> tuple[str, int]:
    """Return the path and the steps of a walk of which the user may have named either.

    Args:
        path: Name of the path; None if the user names none.
        steps: Steps of the walk; None if the user gives none.
        run: The model.
        length: Tokens of a text.

    Returns:
        Both, what is absent by default (`default_path`, `default_steps`).
    """
    steps = default_steps(path, run, length) if steps is None else steps
    return path or default_path(steps, run, length), steps


@dataclass(frozen=True)
class Walk:
    """How to walk.

    Attributes:
        path: The path to follow, if the policy follows one.
        transition: How to take a step.
        num_steps: Steps requested.
        temperature: Sharpens (below 1) or flattens (above 1) every posterior; 1 is exact.
        policy: Allocates SNR; by default it follows the path.
        guidance: Strength of the influence of prompt and label: 1 conditions on them, more
            amplifies them (`core.denoisers.guidance`).
        top_p: Keeps, of every posterior, the fewest most likely values that have this probability
            together, in `(0, 1]` (`core.denoisers.nucleus`); 1 is exact.
    """

    path: Path
    transition: Transition
    num_steps: int
    temperature: float = 1.0
    policy: PolicyChoice = FOLLOW_THE_PATH
    guidance: float = 1.0
    top_p: float = 1.0

    def apply(self, denoiser: Denoiser) -> tuple[Policy, Denoiser]:
        """Return the policy, and the denoiser to walk with, which keeps to its nucleus.

        Args:
            denoiser: The denoiser of the walk, already tempered and guided.

        Returns:
            The policy and the denoiser, as `PolicyChoice.apply` returns them.

        Raises:
            ValueError: There is no such policy, or a setting is out of range.
        """
        return self.policy.apply(self.path, self._narrowed(denoiser))

    def draw(self, denoiser: Denoiser, state: State, generator: Randomness) -> Sample:
        """Return texts that the walk draws.

        Args:
            denoiser: The denoiser of the walk, already tempered and guided.
            state: Where to start.
            generator: Source of all randomness.

        Returns:
            What `core.sample` gives.

        Raises:
            ValueError: As `core.sample` and `apply` do.
        """
        policy, denoiser = self.apply(denoiser)
        return sample(denoiser, state, policy, self.transition, self.num_steps, generator)

    def steps(self, denoiser: Denoiser, state: State, generator: Randomness) -> Iterator[Step]:
        """Return the steps of the walk that `draw` takes.

        Args:
            denoiser: As for `draw`.
            state: As for `draw`.
            generator: As for `draw`.

        Returns:
            What `core.localize` yields.

        Raises:
            ValueError: As `core.localize` and `apply` do.
        """
        policy, denoiser = self.apply(denoiser)
        return localize(denoiser, state, policy, self.transition, self.num_steps, generator)

    def bound(
        self,
        denoiser: Denoiser,
        tokens: Int[Tensor, "batch length"],
        generator: Randomness,
        known: Int[Tensor, "batch length"] | None = None,
    ) -> Estimate:
        """Return the bound on `-log P` of the sampler that walks like this.

        Args:
            denoiser: The denoiser of the walk, already tempered and guided.
            tokens: The sequences, in `[0, V)`.
            generator: Source of all randomness.
            known: Tokens given in advance, `-1` elsewhere.

        Returns:
            What `core.bound` gives. From left to right with a step for every token that is the
            chain rule, for which a two-sided denoiser is called once; else as often as in the walk.

        Raises:
            ValueError: As `core.bound` and `apply` do.
        """
        if self._is_chain_rule(tokens.shape[-1]):
            return left_to_right(self._narrowed(denoiser), tokens, known)
        policy, denoiser = self.apply(denoiser)
        return bound(denoiser, tokens, policy, self.transition, self.num_steps, generator, known)

    def _narrowed(self, denoiser: Denoiser) -> Denoiser:
        return denoiser if self.top_p == 1 else Nucleus(denoiser, self.top_p)

    def _is_chain_rule(self, length: int) -> bool:
        follows = self.policy == FOLLOW_THE_PATH and self.path in (Autoregressive(), Sweep())
        return follows and self.num_steps >= length


@dataclass(frozen=True)
class SpeculativeWalk(Walk):
    """The walk from left to right, with several tokens to a call (`core.speculation`).

    Texts have the distribution of the walk itself, and so the same likelihood.
    """

    def draw(self, denoiser: Denoiser, state: State, generator: Randomness) -> Sample:
        """Return texts that the walk draws, by drafts that each call verifies.

        Args:
            denoiser: The denoiser of the walk, already tempered and guided.
            state: Where to start.
            generator: Source of all randomness.

        Returns:
            The tokens, and the calls that were made: of a two-sided denoiser, at most one for each
            free token of the sequence that needs most.
        """
        drawn = sample_left_to_right(self._narrowed(denoiser), state, generator)
        return Sample(drawn.tokens, drawn.denoiser_calls, torch.zeros_like(state.snr))

    def steps(self, denoiser: Denoiser, state: State, generator: Randomness) -> Iterator[Step]:
        """Refuse: a draft is no step.

        Raises:
            ValueError: Always.
        """
        raise ValueError("A walk by speculation has no steps to show.")


@dataclass(frozen=True)
class WalkSettings:
    """How to walk, by name.

    Attributes:
        path: Name of the path, one of `names.PATHS` or "tuned"; ignored unless the policy follows
            it.
        transition: Name of the transition, one of `names.TRANSITIONS`.
        num_steps: Steps requested; for a line integral, times drawn per sequence.
        policy: Allocates SNR; by default it follows the path.
        temperature: As in `Walk`.
        guidance: As in `Walk`.
        top_p: As in `Walk`.
        speculates: Whether texts are drawn by speculation, from left to right one token a step.
    """

    path: str = "masked"
    transition: str = "ancestral"
    num_steps: int = 64
    policy: PolicyChoice = FOLLOW_THE_PATH
    temperature: float = 1.0
    guidance: float = 1.0
    top_p: float = 1.0
    speculates: bool = False

    @property
    def followed_path(self) -> str | None:
        """The name of the path; None under a policy that follows none."""
        return self.path if self.policy.follows_path else None

    def resolve(self, run: Run, continuous: bool = False) -> Walk:
        """Return the walk for a model.

        Args:
            run: The model, to which a path may have been tuned.
            continuous: Whether the path is for a line integral.

        Returns:
            The walk. Under a policy that follows no path, its path is not used.

        Raises:
            ValueError: There is no such path or transition, the model has not been tuned, or
                speculation is asked for along another path or of a model that is not two-sided.
        """
        path = Masked()
        if self.policy.follows_path:
            path = path_for(run, self.path, self.transition, self.num_steps, continuous)
        is_plain = path == Autoregressive() and self.policy == FOLLOW_THE_PATH
        if self.speculates and not is_plain:
            raise ValueError(
                "Speculation draws from left to right: it takes no other path or policy."
            )
        if self.speculates and between(run.model) is None:
            raise ValueError("Speculation needs a two-sided model, and this one is not.")
        kind = SpeculativeWalk if self.speculates else Walk
        return kind(
            path,
            named_transition(self.transition),
            self.num_steps,
            self.temperature,
            self.policy,
            self.guidance,
            self.top_p,
        )
