"""The free walk: stochastic localization of a sample (paper eq. 2, B.2).

Start at `z = 0` (or at a prompt, or at doubtful text), ask the denoiser, let a policy allocate SNR
and a transition take the step, until every token is known. With small steps the walk draws from
the denoiser's distribution on any path; `bound` scores text under the very same finite walk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stochloc.core.channel import State
from stochloc.core.denoisers.posterior import Denoiser
from stochloc.core.memory import read_through, reader_for
from stochloc.core.policies.base import Policy, check_policy
from stochloc.core.streams import Randomness
from stochloc.core.transitions import Transition
from stochloc.core.walk import Freely, Step, walk


@dataclass(frozen=True)
class Sample:
    """The result of a free walk.

    Attributes:
        tokens: The sampled sequences, all in `[0, V)`.
        denoiser_calls: How often the denoiser was asked, each time about the whole batch; about one
            place of it where it read (`core.memory`).
        snr_received: The finite SNR allocated to every token during the walk; the jump to ∞ that
            decides a token is not counted. What was rewound and allocated again counts twice.
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
        policy: Allocates SNR, and plans the corrector rounds that follow a step.
        transition: Takes the steps.
        num_steps: Steps wanted, at least 1.
        generator: Source of all randomness of the walk.

    Yields:
        The steps in order, none while every token is known.

    Raises:
        ValueError: `policy` is not a policy, or cannot walk in that number of steps.
    """
    check_policy(policy)
    pace = policy.start(state, num_steps, generator)
    yield from walk(denoiser, state, pace, Freely(transition, generator), generator)


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
        policy: Allocates SNR.
        transition: Takes the steps.
        num_steps: Steps wanted, at least 1; one more makes the final decision when the policy
            leaves tokens uncertain. Each is a denoiser call, beside those of the policy itself, of
            guidance and of corrector rounds. From left to right, one token a step, a denoiser that
            can read (`core.denoisers.reading`) is called about one place a step.
        generator: Source of all randomness of the walk.

    Returns:
        The sampled tokens, the denoiser calls that were made and the SNR each token received. Their
        distribution is the one that `bound` bounds for the same arguments.

    Raises:
        ValueError: `policy` is not a policy, or cannot walk in that number of steps.
    """
    check_policy(policy)
    pace = policy.start(state, num_steps, generator)
    if (reader := reader_for(denoiser, state, pace)) is not None:
        tokens, calls = read_through(reader, state, generator)
        return Sample(tokens, calls, torch.zeros_like(state.snr))
    return finish(state, walk(denoiser, state, pace, Freely(transition, generator), generator))


def finish(state: State, steps: Iterable[Step]) -> Sample:
    """Take all steps of a walk and return its result.

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
