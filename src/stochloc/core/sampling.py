"""The free walk: stochastic localization of a sample (paper eq. 2, B.2).

Start at `z = 0` (or at a prompt, or at doubtful text), ask the denoiser, let a policy hand out SNR
and a transition take the step, until every token is known. With small steps the walk draws from
the denoiser's distribution on any path; `bound` prices the very same finite walk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core.channel import State, rewind
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.policies.base import Answer, Pace, Policy, Rounds
from stochloc.core.streams import Randomness, among
from stochloc.core.transitions import InOneStep, Transition


@dataclass(frozen=True)
class Step:
    """One step of a walk.

    Attributes:
        index: Number of the step, from 0; the rises of corrector rounds are steps too.
        posterior: The denoiser's answer before the step.
        dsnr: SNR handed out to every token.
        state: The state after the step.
        denoiser_calls: Calls that were made for the step, the policy's own included.
    """

    index: int
    posterior: Posterior
    dsnr: Float[Tensor, "batch length"]
    state: State
    denoiser_calls: int

    @property
    def snr_received(self) -> Float[Tensor, "batch length"]:
        """The finite SNR handed out; 0 where the step decided the token."""
        return self.dsnr.masked_fill(self.dsnr.isinf(), 0.0).to(self.state.snr)


@dataclass(frozen=True)
class Sample:
    """The result of a free walk.

    Attributes:
        tokens: The sampled sequences, all in `[0, V)`.
        denoiser_calls: How often the denoiser was asked, each time about the whole batch.
        snr_received: The finite SNR handed out to every token during the walk; the jump to ∞ that
            decides a token is not counted. What was rewound and handed out again counts twice.
    """

    tokens: Int[Tensor, "batch length"]
    denoiser_calls: int
    snr_received: Float[Tensor, "batch length"]


def localize(
    denoiser: Denoiser,
    state: State,
    policy: Policy,
    transition: Transition,
    num_steps: int,
    generator: Randomness,
) -> Iterator[Step]:
    """Walk freely and yield every step; the caller records, draws, streams or stops.

    The last step, if the policy leaves tokens uncertain, decides them by drawing each from its own
    posterior, so the last state yielded is always finished.

    Args:
        denoiser: Gives the posterior; asked once per step yielded.
        state: Where to start: `core.channel.start`, with known tokens for a prompt.
        policy: Hands out SNR, and says which corrector rounds follow a step.
        transition: Takes the steps.
        num_steps: Steps wanted, at least 1.
        generator: Source of all randomness of the walk.

    Yields:
        The steps in order, none while every token is known.

    Raises:
        ValueError: The policy cannot walk in so few steps.
    """
    pace = policy.start(state, num_steps, generator)
    walk = _Walk(denoiser, pace, transition, generator)
    for n in range(pace.num_steps + 1):
        state = pace.before(n, denoiser.codebook, state, generator)
        if state.is_finished:
            continue
        for step in walk.steps(n, state):
            yield step
            state = step.state


class _Walk:
    """Takes steps and corrector rounds, and numbers them."""

    def __init__(
        self, denoiser: Denoiser, pace: Pace, transition: Transition, generator: Randomness
    ) -> None:
        self.denoiser, self.pace, self.generator = denoiser, pace, generator
        self.transition, self.index = transition, 0

    def steps(self, n: int, state: State) -> Iterator[Step]:
        """Take the policy's step number n and the rounds after it."""
        step = self._take(state, self.pace.ask(n, self.denoiser, state), self.transition)
        yield step
        rounds = self.pace.rounds
        if rounds is None:
            return
        rounds.watch(state, step.posterior, step.state)
        # What is finished is left alone, however long its neighbours walk.
        unfinished = ~state.is_known.all(-1)
        for _ in range(rounds.number):
            state = step.state
            for rise in self._round(rounds, state, unfinished):
                yield (step := rise)

    def _round(self, rounds: Rounds, state: State, rows: Bool[Tensor, " batch"]) -> Iterator[Step]:
        plan = rounds.plan(state, rows, among(self.generator, rows))
        state = rewind(self.denoiser.codebook, state, plan.lower, self.generator, self.pace.floor)
        transition = InOneStep(self.transition)
        for rise in plan.rises:
            posterior = self.denoiser(state)
            step = self._take(state, Answer(posterior, rise, posterior.calls), transition)
            rounds.watch(state, posterior, step.state)
            yield step
            state = step.state

    def _take(self, state: State, answer: Answer, transition: Transition) -> Step:
        posterior, dsnr = answer.posterior, answer.dsnr
        source = among(self.generator, (dsnr > 0).any(-1))
        after = transition.step(state, posterior, dsnr, source)
        self.index += 1
        return Step(self.index - 1, posterior, dsnr, after, answer.calls)


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    state: State,
    policy: Policy,
    transition: Transition,
    num_steps: int,
    generator: Randomness,
) -> Sample:
    """Walk freely to the end and return the tokens.

    Args:
        denoiser: Gives the posterior.
        state: Where to start.
        policy: Hands out SNR.
        transition: Takes the steps.
        num_steps: Steps wanted, at least 1; one more makes the final decision when the policy
            leaves tokens uncertain. Each is a denoiser call, beside those of the policy itself, of
            guidance and of corrector rounds.
        generator: Source of all randomness of the walk.

    Returns:
        The sampled tokens, the denoiser calls that were made and the SNR each token received. The
        law is the one that `bound` bounds for the same arguments.

    Raises:
        ValueError: The policy cannot walk in so few steps.
    """
    return finish(state, localize(denoiser, state, policy, transition, num_steps, generator))


def finish(state: State, steps: Iterable[Step]) -> Sample:
    """Take all steps of a walk and return what it came to.

    Args:
        state: Where the walk starts.
        steps: What `localize` yields, perhaps watched on the way.

    Returns:
        The tokens, the denoiser calls and the SNR each token received.
    """
    calls, received = 0, torch.zeros_like(state.snr)
    for step in steps:
        state, calls, received = (
            step.state,
            calls + step.denoiser_calls,
            received + step.snr_received,
        )
    return Sample(state.known, calls, received)
