"""The mathematics of discrete stochastic localization: torch only, no files, no printing."""

from stochloc.core.chain_rule import (
    ChainDeviation,
    chain_deviation,
    in_order,
    left_to_right,
    right_to_left,
)
from stochloc.core.channel import UNKNOWN, State, advance, observe, rewind, start
from stochloc.core.codebook import CircleCodebook, Codebook, SimplexCodebook
from stochloc.core.denoisers.blocked import BlockedPosterior
from stochloc.core.denoisers.constrained import Constrained
from stochloc.core.denoisers.dense import DensePosterior
from stochloc.core.denoisers.exact import ExactDenoiser
from stochloc.core.denoisers.framed import Framed
from stochloc.core.denoisers.guidance import Guided, Unconditional
from stochloc.core.denoisers.linearised import Linearised
from stochloc.core.denoisers.nucleus import Nucleus
from stochloc.core.denoisers.padded import Padded
from stochloc.core.denoisers.posterior import Denoiser, Posterior
from stochloc.core.denoisers.reading import Readable, Reader, read
from stochloc.core.denoisers.tempered import Tempered
from stochloc.core.denoisers.two_sided import Between, TwoSided, between, leave_one_out
from stochloc.core.directions import LearnedCodebook, RandomCodebook
from stochloc.core.likelihood import Estimate, bound, line_integral
from stochloc.core.paths.base import Grid, Path, Point, Then
from stochloc.core.paths.custom import Custom
from stochloc.core.paths.diffusion import Decode, Diffusion
from stochloc.core.paths.interleaved import Apart, Interleaved, Order, Shuffled
from stochloc.core.paths.orders import Autoregressive, Block, Masked, Rolling
from stochloc.core.paths.spacings import Geometric, Lomax, Spacing, Uniform
from stochloc.core.paths.spread import Spread
from stochloc.core.paths.sweep import Sweep
from stochloc.core.policies.apart import RevealApart
from stochloc.core.policies.backtracking import Backtrack
from stochloc.core.policies.base import Follow, Pace, Policy
from stochloc.core.policies.certainties import CERTAINTIES, Certainty, Confidence, LowEntropy
from stochloc.core.policies.correctors import (
    AtRandom,
    Choice,
    Corrected,
    LeastConfident,
    OneByOne,
    Redraw,
    Together,
)
from stochloc.core.policies.curvature import (
    Curvature,
    CurvatureProbe,
    FiniteDifference,
    JacobianProduct,
)
from stochloc.core.policies.remasking import Capped, Looped, Remasking, RemaskingRate, Rescaled
from stochloc.core.policies.rules import AllDifferent, Rule
from stochloc.core.policies.tolerance import Tolerance
from stochloc.core.policies.unmasking import Reveal, RevealAbove, Share
from stochloc.core.sampling import Sample, finish, localize, sample
from stochloc.core.speculation import Speculation, sample_left_to_right
from stochloc.core.streams import Randomness, Streams, among
from stochloc.core.transitions import Ancestral, Euler, Transition
from stochloc.core.tuning import StepCosts, measure_step_costs
from stochloc.core.walk import Step

__all__ = [
    "CERTAINTIES",
    "UNKNOWN",
    "AllDifferent",
    "Ancestral",
    "Apart",
    "AtRandom",
    "Autoregressive",
    "Backtrack",
    "Between",
    "Block",
    "BlockedPosterior",
    "Capped",
    "Certainty",
    "ChainDeviation",
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
    "Framed",
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
    "Nucleus",
    "OneByOne",
    "Order",
    "Pace",
    "Padded",
    "Path",
    "Point",
    "Policy",
    "Posterior",
    "RandomCodebook",
    "Randomness",
    "Readable",
    "Reader",
    "Redraw",
    "Remasking",
    "RemaskingRate",
    "Rescaled",
    "Reveal",
    "RevealAbove",
    "RevealApart",
    "Rolling",
    "Rule",
    "Sample",
    "Share",
    "Shuffled",
    "SimplexCodebook",
    "Spacing",
    "Speculation",
    "Spread",
    "State",
    "Step",
    "StepCosts",
    "Streams",
    "Sweep",
    "Tempered",
    "Then",
    "Together",
    "Tolerance",
    "Transition",
    "TwoSided",
    "Unconditional",
    "Uniform",
    "advance",
    "among",
    "between",
    "bound",
    "chain_deviation",
    "finish",
    "in_order",
    "leave_one_out",
    "left_to_right",
    "line_integral",
    "localize",
    "measure_step_costs",
    "observe",
    "read",
    "rewind",
    "right_to_left",
    "sample",
    "sample_left_to_right",
    "start",
]
