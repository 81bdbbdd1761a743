"""Every setting is accepted up to the edge of its range and refused just beyond."""

import math
from collections.abc import Callable

import pytest
import torch

from stochloc.core import (
    Apart,
    Block,
    Capped,
    Corrected,
    Curvature,
    Diffusion,
    ExactDenoiser,
    Follow,
    Framed,
    Geometric,
    Guided,
    Interleaved,
    LearnedCodebook,
    Lomax,
    Looped,
    Masked,
    Padded,
    Rescaled,
    RevealAbove,
    Rolling,
    Share,
    SimplexCodebook,
    Tempered,
    Tolerance,
    Uniform,
)

TINY, NEAR_1, OVER_1, HUGE = 5e-324, math.nextafter(1, 0), math.nextafter(1, 2), 1.7e308
INF, NAN = math.inf, math.nan
POLICY, FINITE = Follow(Masked()), Diffusion(Uniform(3.0))
EXACT = ExactDenoiser(SimplexCodebook(2), torch.tensor([[0], [1]]))
# What is made of one value; values that are accepted, and some that are not.
RANGES: dict[str, tuple[Callable[[float], object], list[float], list[float]]] = {
    "codes": (lambda d: LearnedCodebook(3, int(d)), [1], [0, -1]),
    "rounds": (lambda r: Corrected(POLICY, rounds=int(r)), [1], [0]),
    "share taken back": (lambda s: Corrected(POLICY, share=s), [TINY, 1], [0, OVER_1, NAN]),
    "level taken back to": (lambda s: Corrected(POLICY, snr=s), [0, HUGE], [-TINY, INF, NAN]),
    "eta, capped": (Capped, [0, 1], [-TINY, OVER_1, NAN]),
    "eta, rescaled": (Rescaled, [0, 1], [-TINY, OVER_1, NAN]),
    "eta, looped": (lambda e: Looped(eta=e, known=0.5), [0, 1], [-TINY, OVER_1]),
    "known, looped": (lambda k: Looped(eta=0.0, known=k), [TINY, NEAR_1], [0, 1, NAN]),
    "begin, looped": (lambda b: Looped(begin=b, end=0.5), [TINY, 0.49], [0, 0.5, NAN]),
    "end, looped": (lambda e: Looped(begin=0.5, end=e), [0.51, NEAR_1], [0.5, 1, NAN]),
    "delta": (lambda d: Curvature(delta=d), [TINY, HUGE], [0, INF, NAN]),
    "snr_max of curvature": (lambda s: Curvature(snr_max=s), [TINY, HUGE], [0, INF, NAN]),
    "snr_min of curvature": (lambda s: Curvature(snr_min=s), [0, HUGE], [-TINY, INF, NAN]),
    "temperature": (lambda t: Tempered(EXACT, t), [TINY, HUGE], [0, INF, NAN]),
    "strength of guidance": (lambda s: Guided(EXACT, EXACT, s), [0, HUGE], [-TINY, INF, NAN]),
    "tokens before": (lambda n: Padded(EXACT, int(n), 0), [0], [-1]),
    "tokens after": (lambda n: Padded(EXACT, 0, int(n)), [0], [-1]),
    "token in front": (lambda n: Framed(EXACT, (int(n),)), [-1, 0, 1], [-2, 2]),
    "token behind": (lambda n: Framed(EXACT, (), (0, int(n))), [-1, 0, 1], [-2, 2]),
    "knots": (lambda n: Interleaved((0.0, 1.0)[-int(n):], (0.0, 1.0)[-int(n):]), [2], [1]),
    "groups": (lambda n: Apart(int(n)), [1], [0]),
    "first share": (lambda s: Interleaved((s, 1.0), (0.0, 0.0)), [0], [TINY]),
    "first level": (lambda s: Interleaved((0.0, 1.0), (s, 1.0)), [0], [TINY]),
    "last share": (lambda s: Interleaved((0.0, s), (0.0, 0.0)), [1], [NEAR_1]),
    "last level": (lambda s: Interleaved((0.0, 1.0), (0.0, s)), [0, HUGE], [-TINY, INF]),
    "block": (lambda n: Block(int(n), Masked()), [1], [0]),
    "end of a block": (lambda s: Block(1, Diffusion(Lomax(snr_max=s))), [INF], [HUGE]),
    "window": (lambda n: Rolling(int(n)), [1], [0]),
    "share of the second path": (lambda s: FINITE.then(Masked(), s), [TINY, NEAR_1], [0, 1, NAN]),
    "end of the first path": (lambda s: Diffusion(Lomax(snr_max=s)).then(Masked()), [HUGE], [INF]),
    "cut": (lambda s: Lomax(snr_max=s), [TINY, 0.5, INF], [0, -1, NAN]),
    "scale": (lambda s: Lomax(scale=s), [TINY, 0.5, HUGE], [0, INF, NAN]),
    "shape": (lambda s: Lomax(shape=s), [TINY, 0.5, HUGE], [0, INF, NAN]),
    "end, uniform": (Uniform, [TINY, 0.5, HUGE], [0, INF, NAN]),
    "end, geometric": (Geometric, [TINY, 0.5, HUGE], [0, INF, NAN]),
    "scale, geometric": (lambda s: Geometric(1.0, s), [TINY, 0.5, HUGE], [0, INF, NAN]),
    "tolerance": (Tolerance, [TINY, NEAR_1], [0, 1, NAN]),
    "threshold": (RevealAbove, [TINY, 1], [0, OVER_1, NAN]),
    "sharpness": (lambda s: Share(sharpness=s), [0, HUGE], [-TINY, INF, NAN]),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_a_setting_is_accepted_up_to_the_edge_of_its_range_and_refused_beyond(name):
    make, inside, outside = RANGES[name]
    for value in inside:
        make(float(value))
    for value in outside:
        with pytest.raises(ValueError):  # noqa: PT011
            make(float(value))
