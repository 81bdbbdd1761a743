"""The loop of every walk: ask the denoiser, let the policy allocate SNR, move, correct.

A free walk (sampling) and a guided walk (the bound) visit states by the same rule; they differ in
one thing only, how a state moves once it is decided how far each token goes. That is a `Move`:

    free:    z' ~ p(z'|z), the transition's kernel, which knows nothing of the text,
    guided:  z' ~ q(z'|z, x) = N(z + x dγ, dγ), the channel's, which knows it.

The sampler of N steps is the latent-variable model whose latents are these states, so bound and
sample belong together as far as they share this loop, the policy and the transition.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import State, advance, rewind
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.stretches import while_open
from stochloc.core.policies.base import Answer, Pace, Round
from stochloc.core.streams import Randomness, among
from stochloc.core.transitions import InOneStep, Transition


@dataclass(frozen=True)
class Step:
    """One step of a walk.

    Attributes:
        index: Number of the step, from 0; the rises of corrector rounds are steps too.
        before: The state the denoiser was asked about.
        posterior: The denoiser's answer there.
        dsnr: SNR allocated to every token.
        state: The state after the step.
        denoiser_calls: Calls that were made for the step, the policy's own included.
    """

    index: int
    before: State
    posterior: Posterior
    dsnr: Float[Tensor, "batch length"]
    state: State
    denoiser_calls: int

    @property
    def snr_received(self) -> Float[Tensor, "batch length"]:
        """The finite SNR allocated; 0 where the step decided the token."""
        return self.dsnr.masked_fill(self.dsnr.isinf(), 0.0).to(self.state.snr)


@runtime_checkable
class Move(Protocol):
    """How a state moves when every token's step in γ is given."""

    def __call__(
        self, state: State, posterior: Posterior, dsnr: Float[Tensor, "batch length"]
    ) -> State:
        """Draw the next state; no denoiser call."""
        ...

    def in_one_step(self) -> "Move":
        """Return the move that raises a token in a single step of any length."""
        ...


@dataclass(frozen=True)
class Freely:
    """Move by a transition: the walk that samples.

    Attributes:
        transition: Takes the steps.
        generator: Source of its randomness.
    """

    transition: Transition
    generator: Randomness

    def __call__(
        self, state: State, posterior: Posterior, dsnr: Float[Tensor, "batch length"]
    ) -> State:
        """Draw `z' ~ p(z'|z)`.

        Args:
            state: Where the walk is.
            posterior: The denoiser's answer there.
            dsnr: Steps in γ, in `[0, ∞]`.

        Returns:
            The next state. Of streams, only those of sequences that move are drawn from.
        """
        moving = among(self.generator, (dsnr > 0).any(-1))
        return self.transition.step(state, posterior, dsnr, moving)

    def in_one_step(self) -> "Freely":
        """Return the move whose finite steps are exact for one token at any length."""
        return replace(self, transition=InOneStep(self.transition))


@dataclass(frozen=True, eq=False)
class Towards:
    """Move as the channel does that sends given sequences: the walk that scores them.

    Attributes:
        tokens: The sequences, in `[0, V)`.
        generator: Source of the channel's noise.
    """

    tokens: Int[Tensor, "batch length"]
    generator: Randomness

    def __call__(
        self, state: State, posterior: Posterior, dsnr: Float[Tensor, "batch length"]
    ) -> State:
        """Draw `z' ~ q(z'|z, x)`; exact.

        Args:
            state: Where the walk is.
            posterior: Used only for its codebook; the channel does not depend on the posterior.
            dsnr: Steps in γ, in `[0, ∞]`.

        Returns:
            The next state.
        """
        return advance(posterior.codebook, state, self.tokens, dsnr, self.generator)

    def in_one_step(self) -> "Towards":
        """Return the move itself: the channel's steps are exact at any length."""
        return self


def walk(
    denoiser: Denoiser, state: State, pace: Pace, move: Move, generator: Randomness
) -> Iterator[Step]:
    """Walk until every token is known, and yield every step.

    The last step, if the policy leaves tokens uncertain, decides them, so the last state yielded is
    always finished.

    Args:
        denoiser: Gives the posterior; asked once per step yielded.
        state: Where the walk begins, the state that the pace was started with.
        pace: The policy at work: allocates SNR, rewinds tokens, plans corrector rounds.
        move: Takes the steps.
        generator: Source of the noise of rewinding and of the rounds' choices.

    Yields:
        The steps in order, none while every token is known. Each reports the denoiser calls that
        were made for it.
    """
    walker = _Walker(while_open(denoiser, state), pace, move, generator)
    for n in range(pace.num_steps + 1):
        state = pace.before(n, denoiser.codebook, state, generator)
        if state.is_finished:
            continue
        for step in walker.visit(n, state):
            yield step
            state = step.state


@dataclass(frozen=True, eq=False)
class _Walker:
    """What stays the same from step to step, and the number of the next one."""

    denoiser: Denoiser
    pace: Pace
    move: Move
    generator: Randomness
    numbers: Iterator[int] = field(default_factory=count)

    def visit(self, n: int, state: State) -> Iterator[Step]:
        """Take the policy's step number n and the corrector rounds after it."""
        step = self._take(state, self.pace.ask(n, self.denoiser, state), self.move)
        yield step
        rounds = self.pace.rounds
        if rounds is None:
            return
        rounds.watch(state, step.posterior, step.state)
        # What is finished is left alone, however long its neighbours walk.
        unfinished = ~state.is_known.all(-1)
        for _ in range(rounds.number):
            plan = rounds.plan(step.state, unfinished, among(self.generator, unfinished))
            for rise in self._rises(step.state, plan):
                rounds.watch(rise.before, rise.posterior, rise.state)
                yield (step := rise)

    def _rises(self, state: State, plan: Round) -> Iterator[Step]:
        codebook, move = self.denoiser.codebook, self.move.in_one_step()
        state = rewind(codebook, state, plan.lower, self.generator, self.pace.floor)
        for dsnr in plan.rises:
            posterior = self.denoiser(state)
            step = self._take(state, Answer(posterior, dsnr, posterior.calls), move)
            yield step
            state = step.state

    def _take(self, state: State, answer: Answer, move: Move) -> Step:
        posterior, dsnr = answer.posterior, answer.dsnr
        after = move(state, posterior, dsnr)
        return Step(next(self.numbers), state, posterior, dsnr, after, answer.calls)
