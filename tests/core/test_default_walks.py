"""Every published figure depends on the defaults: a change must be intended and measured."""

import math

import pytest

from stochloc.core import (
    AtRandom,
    Autoregressive,
    Capped,
    Confidence,
    Corrected,
    Curvature,
    Decode,
    Diffusion,
    FiniteDifference,
    Follow,
    Geometric,
    Lomax,
    Looped,
    Masked,
    OneByOne,
    Remasking,
    Rescaled,
    Reveal,
    RevealAbove,
    Rolling,
    Share,
    Then,
    Tolerance,
    Uniform,
)
from stochloc.core.denoisers import constrained as conditioning
from stochloc.core.policies import tolerance

MASKED, FINITE = Follow(Masked()), Diffusion(Uniform(3.0))


@pytest.mark.parametrize(("default", "meant"), [
    (Lomax(), Lomax(scale=8.0, shape=3.0, snr_max=math.inf)),
    (Geometric(5.0), Geometric(5.0, scale=1.0)),
    (Diffusion(), Diffusion(Lomax())),
    (Rolling(3), Rolling(3, Lomax(snr_max=50.0))),
    (Autoregressive(), Autoregressive(order=None)),
    (Then(FINITE, Decode()), FINITE.then(Decode(), share=0.5)),
    (Reveal(), Reveal(Confidence())),
    (RevealAbove(), RevealAbove(0.9, Confidence())),
    (Share(), Share(Confidence(), Lomax(), sharpness=1.0)),
    (Curvature(), Curvature(FiniteDifference(), delta=0.01, snr_min=0.01, snr_max=10.0)),
    (Tolerance(), Tolerance(share=0.05)),
    (Corrected(MASKED), Corrected(MASKED, 1, 0.1, 0.0, AtRandom(), OneByOne())),
    (Remasking(), Remasking(Capped(eta=0.04), by_confidence=False)),
    (Rescaled(), Rescaled(eta=0.04)),
    (Looped(), Looped(eta=0.02, known=0.9, begin=0.45, end=0.95)),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_a_default_is_the_one_that_the_figures_were_measured_with(default, meant):
    assert default == meant


def test_the_constants_of_the_error_controller_and_of_constraints_are_those_measured():
    assert (tolerance.MEMORY, tolerance.LARGEST_GROWTH) == (0.3, 2.0)
    assert (tolerance.LONGEST, tolerance.SMALLEST) == (1e6, 1e-9)
    assert (tolerance.IN_STEPS, tolerance.LEAST_LEFT) == (0.8, 0.1)
    assert (conditioning.RULED_OUT_NATS, conditioning.UNEVEN_NATS) == (30.0, 1.0)
