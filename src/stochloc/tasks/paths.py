"""The paths and transitions that commands know by name, with default settings.

A walk of N steps and a line integral need different ends. A walk visits N quantiles of an unbounded
spacing, of which the last is ∞, so it costs exactly N denoiser calls. A line integral stops the
diffusion at a large finite γ and decodes the rest (paper eq. 13), because a learned denoiser's
error need not vanish fast enough to be integrated to ∞.
"""

import math
from collections.abc import Callable

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Block,
    Decode,
    Diffusion,
    Euler,
    Lomax,
    Masked,
    Path,
    Rolling,
    Spread,
    Sweep,
    Transition,
)

SNR_MAX = 40.0
HYBRID_SNR = 3.0
BLOCK_TOKENS = 16
WINDOW_TOKENS = 32


def named_path(name: str, continuous: bool = False) -> Path:
    """Return the path with a name that commands use.

    Args:
        name: One of `PATHS`; "tuned" is a path of a run (`tasks.tuned`).
        continuous: Whether it is for a line integral; else it is for a walk.

    Returns:
        The path.

    Raises:
        ValueError: There is no such path.
    """
    if name not in PATHS:
        raise ValueError(f"There is no path {name!r}; the paths are {', '.join(PATHS)}.")
    return PATHS[name](continuous)


def named_transition(name: str) -> Transition:
    """Return the transition with a name that commands use.

    Args:
        name: One of `TRANSITIONS`.

    Returns:
        The transition.

    Raises:
        ValueError: There is no such transition.
    """
    if name not in TRANSITIONS:
        raise ValueError(
            f"There is no transition {name!r}; the transitions are {', '.join(TRANSITIONS)}."
        )
    return TRANSITIONS[name]


def _diffusion(continuous: bool) -> Path:
    if continuous:
        return Diffusion(Lomax(snr_max=SNR_MAX)).then(Decode(), share=1 / 16)
    return Diffusion(Lomax(snr_max=math.inf))


# Name: the path, for a line integral or for a walk.
PATHS: dict[str, Callable[[bool], Path]] = {
    "masked": lambda _: Masked(),
    "spread": lambda _: Spread(),
    "sweep": lambda _: Sweep(),
    "diffusion": _diffusion,
    "autoregressive": lambda _: Autoregressive(),
    "block": lambda continuous: Block(BLOCK_TOKENS, _diffusion(continuous)),
    "rolling": lambda _: Rolling(WINDOW_TOKENS, Lomax(snr_max=SNR_MAX)),
    "hybrid": lambda _: Diffusion(Lomax(snr_max=HYBRID_SNR)).then(Autoregressive()),
}
TRANSITIONS: dict[str, Transition] = {"ancestral": Ancestral(), "euler": Euler()}
