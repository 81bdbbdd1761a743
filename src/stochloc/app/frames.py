"""What the page is shown of a walk after every step, as JSON values."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from stochloc.core import Posterior, State, Step
from stochloc.tasks.likely import likeliest

NUM_LIKELY = 5
LEAST_PROBABILITY = 1e-4


def frame(state: State, posterior: Posterior | None, texts: Sequence[str]) -> dict[str, Any]:
    """Return a state and what the denoiser believes there, for the one text of a batch.

    Args:
        state: The state.
        posterior: The denoiser's answer; None where every token is known.
        texts: The text of every token of the vocabulary.

    Returns:
        For every place: the SNR (None where the token is known), the most likely token, whether it
        is known, its probability, and the five likeliest with theirs. No denoiser call.
    """
    known = state.known[0].tolist()
    snr = state.snr[0].tolist()
    likely = [[(token, 1.0)] for token in known]
    if posterior is not None:
        probs, tokens = likeliest(posterior, NUM_LIKELY)
        rows = zip(known, tokens[0].tolist(), probs[0].tolist(), strict=True)
        likely = [
            [(token, 1.0)] if token >= 0 else list(zip(best, its, strict=True))
            for token, best, its in rows
        ]
    return {
        "snr": [
            None if token >= 0 else float(f"{value:.4g}")
            for token, value in zip(known, snr, strict=True)
        ],
        "tokens": [texts[best[0][0]] for best in likely],
        "known": [token >= 0 for token in known],
        "p": [round(best[0][1], 4) for best in likely],
        "top": [
            [[texts[token], round(p, 4)] for token, p in best if p >= LEAST_PROBABILITY]
            for best in likely
        ],
    }


def bits_of(step: Step) -> float:
    """Return how many bits a step is worth.

    A token that the step decides is worth `-log2 Q(x_i|z)`, what its draw told. A finite step dγ is
    worth at most what the denoiser expects it to tell about the token,

        I(x_i; z_i'|z) ≤ min(½ dγ (1 - ‖x̂_i‖²), H(Q_i)) / ln 2,

    the first by the identity of information and squared error (½ dγ times the error at its
    beginning, which only falls), the second because a token has no more to tell.

    Args:
        step: A step of a walk of one text.

    Returns:
        The sum over its tokens. Along a walk that unmasks, the sum over steps is `-log2` of the
        probability of drawing these tokens in this order. No denoiser call.
    """
    before, after, posterior = step.before, step.state, step.posterior
    decided = after.is_known & ~before.is_known
    drawn = -posterior.log_prob(after.known.clamp(min=0)).masked_fill(~decided, 0.0)
    rise = step.snr_received.masked_fill(decided, 0.0)
    expected = torch.minimum(
        0.5 * rise * posterior.uncertainty.to(rise), posterior.entropy.to(rise)
    )
    return float(drawn.masked_fill(~decided, 0.0).sum() + expected.sum()) / math.log(2)
