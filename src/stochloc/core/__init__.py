"""The mathematics of discrete stochastic localization: torch only, no files, no printing."""

from stochloc.core.channel import UNKNOWN, State, advance, observe, rewind, start
from stochloc.core.codebook import CircleCodebook, Codebook, LearnedCodebook, SimplexCodebook
from stochloc.core.conditioning import Constrained, Surrounded
from stochloc.core.correctors import (
    AtRandom,
    Choice,
    Corrected,
    LeastConfident,
    OneByOne,
    Redraw,
    Together,
)
from stochloc.core.curvature import Curvature, CurvatureProbe, FiniteDifference, JacobianProduct
from stochloc.core.denoiser import Denoiser, DensePosterior, ExactDenoiser, Posterior, Tempered
from stochloc.core.guidance import Forgetful, Guided
from stochloc.core.interleaved import Interleaved, StepCosts, measure_step_costs
from stochloc.core.likelihood import Estimate, bound, line_integral
from stochloc.core.linearised import Linearised
from stochloc.core.orders import Autoregressive, Block, Masked, Rolling
from stochloc.core.paths import Custom, Decode, Diffusion, Grid, Path, Point, Then
from stochloc.core.policies import Follow, Pace, Policy
from stochloc.core.remasking import Capped, Looped, Remasking, RemaskingRate, Rescaled
from stochloc.core.sampling import Sample, Step, finish, localize, sample
from stochloc.core.spacings import Geometric, Lomax, Spacing, Uniform
from stochloc.core.streams import Randomness, Streams, among
from stochloc.core.tolerance import Tolerance
from stochloc.core.transitions import Ancestral, Euler, Transition
from stochloc.core.unmasking import (
    Certainty,
    Confidence,
    LowEntropy,
    Reveal,
    RevealAbove,
    Share,
)

__all__ = [
    "UNKNOWN",
    "Ancestral",
    "AtRandom",
    "Autoregressive",
    "Block",
    "Capped",
    "Certainty",
    "Choice",
    "CircleCodebook",
    "Codebook",
    "Confidence",
    "Constrained",
    "Corrected",
    "Curvature",
    "CurvatureProbe",
    "Custom",
    "Decode",
    "Denoiser",
    "DensePosterior",
    "Diffusion",
    "Estimate",
    "Euler",
    "ExactDenoiser",
    "FiniteDifference",
    "Follow",
    "Forgetful",
    "Geometric",
    "Grid",
    "Guided",
    "Interleaved",
    "JacobianProduct",
    "LearnedCodebook",
    "LeastConfident",
    "Linearised",
    "Lomax",
    "Looped",
    "LowEntropy",
    "Masked",
    "OneByOne",
    "Pace",
    "Path",
    "Point",
    "Policy",
    "Posterior",
    "Randomness",
    "Redraw",
    "Remasking",
    "RemaskingRate",
    "Rescaled",
    "Reveal",
    "RevealAbove",
    "Rolling",
    "Sample",
    "Share",
    "SimplexCodebook",
    "Spacing",
    "State",
    "Step",
    "StepCosts",
    "Streams",
    "Surrounded",
    "Tempered",
    "Then",
    "Together",
    "Tolerance",
    "Transition",
    "Uniform",
    "advance",
    "among",
    "bound",
    "finish",
    "line_integral",
    "localize",
    "measure_step_costs",
    "observe",
    "rewind",
    "sample",
    "start",
]
