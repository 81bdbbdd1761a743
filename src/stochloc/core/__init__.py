"""The mathematics of discrete stochastic localization: torch only, no files, no printing."""

from stochloc.core.channel import UNKNOWN, State, advance, observe, rewind, start
from stochloc.core.codebook import CircleCodebook, Codebook, LearnedCodebook, SimplexCodebook
from stochloc.core.denoiser import Denoiser, DensePosterior, ExactDenoiser, Posterior, Tempered
from stochloc.core.likelihood import Estimate, bound, line_integral
from stochloc.core.orders import Autoregressive, Block, Masked, Rolling
from stochloc.core.paths import Custom, Decode, Diffusion, Grid, Path, Point, Then
from stochloc.core.policies import Follow, Pace, Policy
from stochloc.core.sampling import Sample, Step, localize, sample
from stochloc.core.spacings import Geometric, Lomax, Spacing, Uniform
from stochloc.core.transitions import Ancestral, Euler, Transition

__all__ = [
    "UNKNOWN",
    "Ancestral",
    "Autoregressive",
    "Block",
    "CircleCodebook",
    "Codebook",
    "Custom",
    "Decode",
    "Denoiser",
    "DensePosterior",
    "Diffusion",
    "Estimate",
    "Euler",
    "ExactDenoiser",
    "Follow",
    "Geometric",
    "Grid",
    "LearnedCodebook",
    "Lomax",
    "Masked",
    "Pace",
    "Path",
    "Point",
    "Policy",
    "Posterior",
    "Rolling",
    "Sample",
    "SimplexCodebook",
    "Spacing",
    "State",
    "Step",
    "Tempered",
    "Then",
    "Transition",
    "Uniform",
    "advance",
    "bound",
    "line_integral",
    "localize",
    "observe",
    "rewind",
    "sample",
    "start",
]
