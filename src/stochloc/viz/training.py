"""Figure 3 of the paper: the γ drawn in training, compared with the integrand of the bound.

Per unit of ln γ the bound's integrand on the diffusion path is `γ E(x, γ) / 2`. Training where it
is large tightens the bound. Both are drawn as densities over ln γ, of area 1 each; the fraction of
tokens that training puts at the endpoints 0 and ∞ lies outside the axis and is stated in the title.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from stochloc.training.snr import SidedSnrLaw, SnrLaw, draw_sides
from stochloc.viz.error import ErrorField
from stochloc.viz.files import Rows
from stochloc.viz.style import COLOURS, snr_axis

NUM_BATCHES, BATCH, LENGTH = 16, 256, 64
NUM_BINS = 60
LOWEST, HIGHEST = 0.02, 200.0


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """The γ distribution of training and the errors of the model that was trained.

    Attributes:
        edges: Edges of the histogram's bins in γ.
        density: Density over ln γ of the drawn γ that lie between 0 and ∞.
        at_zero: Fraction of tokens at γ = 0.
        at_infinity: Fraction of tokens at γ = ∞.
        field: The error field of the model.
    """

    edges: Float[Tensor, " edges"]
    density: Float[Tensor, " bins"]
    at_zero: float
    at_infinity: float
    field: ErrorField

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.6, 3.6

    @property
    def integrand(self) -> tuple[Float[Tensor, " strata"], Float[Tensor, " strata"]]:
        """`γE/2` normalised over ln γ, and its standard error."""
        mean, stderr = self.field.integrand
        total = torch.trapezoid(mean, self.field.centres.log())
        return mean / total, stderr / total

    def rows(self) -> Rows:
        """Return a row per bin of the histogram, two for the endpoints, one per stratum of E."""
        header = (
            "quantity", "snr_from (dimensionless)", "snr_to (dimensionless)",
            "value", "stderr", "unit",
        )  # fmt: skip
        edges, strata = self.edges.tolist(), self.field.edges.tolist()
        mean, stderr = self.field.integrand
        per_ln, per_token = "share of noisy tokens per unit of ln γ", "nats per token per ln γ"
        bins = zip(edges[:-1], edges[1:], self.density.tolist(), strict=True)
        curve = zip(strata[:-1], strata[1:], mean.tolist(), stderr.tolist(), strict=True)
        return [
            header,
            ("training density", 0.0, 0.0, self.at_zero, "", "share of all tokens"),
            *(("training density", *row, "", per_ln) for row in bins),
            ("training density", math.inf, math.inf, self.at_infinity, "", "share of all tokens"),
            *(("integrand", *row, per_token) for row in curve),
        ]

    def draw(self, figure: Figure) -> None:
        """Draw both densities over ln γ."""
        axes = figure.add_subplot()
        axes.stairs(
            self.density.tolist(), self.edges.tolist(), fill=True, color=COLOURS[0], alpha=0.5,
            label="γ drawn in training",
        )  # fmt: skip
        curve, spread = self.integrand
        centres = self.field.centres
        axes.plot(centres, curve, color=COLOURS[1], label="integrand γE/2 of the bound")
        axes.fill_between(
            centres, curve - spread, curve + spread, color=COLOURS[1], alpha=0.35, lw=0
        )
        snr_axis(axes)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("density per unit of ln γ, area 1\n(dimensionless)")
        axes.set_title(
            f"in training {self.at_zero:.1%} of tokens are at γ = 0, "
            f"{self.at_infinity:.1%} at γ = ∞"
        )
        figure.legend(loc="outside lower center", ncols=2)


def measure(
    law: SnrLaw | SidedSnrLaw, field: ErrorField, generator: torch.Generator
) -> TrainingPicture:
    """Draw γ as training does.

    Args:
        law: The γ distribution of the run; of one with two sides, both are counted.
        field: The errors of its model.
        generator: Source of γ.

    Returns:
        The data of the figure; no denoiser call.
    """
    draws = [draw_sides(law, BATCH, LENGTH, generator) for _ in range(NUM_BATCHES)]
    sides = [side for drawn in draws for side in (drawn.left, drawn.right) if side is not None]
    snr = torch.cat(sides).cpu().double()
    inside = snr[(snr > 0) & snr.isfinite()]
    edges = torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), NUM_BINS + 1).double()
    counts = torch.histogram(inside, edges).hist
    density = counts / max(1, len(inside)) / edges.log().diff()
    return TrainingPicture(
        edges, density, float((snr == 0).double().mean()), float(snr.isinf().double().mean()), field
    )
