"""The error field of a model on the diffusion path, and its integral.

Where all tokens share γ, a denoiser is trained to minimise `E(x, γ) = E‖x - x̂(z)‖²`, and

    -log P(x) = ½ ∫₀^γ_max Σ_i E_i(x, γ) dγ - E log P(x|z_γ_max)                     (paper eq. 13).

γ is drawn within the strata of a spacing, once per window and stratum, and weighted by the
spacing's rate; so the running integral is unbiased at every edge, and the total is the line
integral along the diffusion path that decodes at its end.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Real
from matplotlib.figure import Figure
from torch import Tensor

from stochloc.core import Denoiser, Geometric, Spacing
from stochloc.core.numerics import draw_stratified
from stochloc.core.standard_errors import ratio_stderr
from stochloc.tasks.paths import SNR_MAX
from stochloc.viz.files import Rows
from stochloc.viz.held_out import HeldOut, measured
from stochloc.viz.style import COLOURS, INK, snr_axis

Columns = tuple[Float[Tensor, " columns"], Float[Tensor, " columns"]]

NUM_STRATA = 48
SPACING = Geometric(SNR_MAX)


@dataclass(frozen=True, eq=False)
class ErrorField:
    """Errors of windows of text, or of sequences, at drawn γ.

    Attributes:
        edges: Edges of the strata in γ, from 0 to γ_max.
        snr: The γ drawn.
        errors: `E` at that γ, the sum over the free tokens; dimensionless.
        nats: Contribution of each stratum to the integral.
        remainder: `-log Q(x|z)` at γ_max, nats.
        characters: Characters of every window or sequence.
        num_free: Free tokens of each.
        described: How many windows or sequences there are, in words.
    """

    edges: Float[Tensor, " edges"]
    snr: Float[Tensor, "windows strata"]
    errors: Float[Tensor, "windows strata"]
    nats: Float[Tensor, "windows strata"]
    remainder: Float[Tensor, " windows"]
    characters: Int[Tensor, " windows"]
    num_free: Int[Tensor, " windows"]
    described: str

    @property
    def error_per_token(self) -> Columns:
        """`E` per token in every stratum, dimensionless."""
        return self._per_token(self.errors)

    @property
    def running_bits(self) -> Columns:
        """The integral up to the upper edge of every stratum, in bits per character."""
        return self._per_character(self.nats.cumsum(-1))

    @property
    def remainder_bits(self) -> float:
        """The cost of decoding at γ_max, in bits per character."""
        return float(self._per_character(self.remainder[:, None])[0])

    @property
    def total_bits(self) -> Columns:
        """The total, in one column: the integral up to γ_max plus the cost of decoding there."""
        return self._per_character((self.nats.sum(-1) + self.remainder)[:, None])

    @property
    def integrand(self) -> Columns:
        """`γ E(x, γ) / 2`, the integrand per unit of ln γ, in nats per token."""
        return self._per_token(0.5 * self.snr * self.errors)

    @property
    def centres(self) -> Float[Tensor, " strata"]:
        """The mean γ drawn in every stratum."""
        return self.snr.mean(0)

    def _per_character(self, nats: Float[Tensor, "windows columns"]) -> Columns:
        return mean_and_stderr(nats / math.log(2), self.characters[:, None].expand_as(nats))

    def _per_token(self, values: Float[Tensor, "windows strata"]) -> Columns:
        return mean_and_stderr(values, self.num_free[:, None].expand_as(values))


@dataclass(frozen=True, eq=False)
class ErrorPicture:
    """The figure of an error field.

    Attributes:
        field: What was measured.
    """

    field: ErrorField

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.6, 5.0

    def rows(self) -> Rows:
        """Return a row per stratum, and a last one that includes decoding at γ_max."""
        header = (
            "snr_from (dimensionless)", "snr_to (dimensionless)",
            "snr_mean (dimensionless)", "error_per_token (dimensionless)", "error_stderr",
            "bits_per_character_up_to_snr_to", "bits_per_character_stderr",
        )  # fmt: skip
        field, edges = self.field, self.field.edges.tolist()
        columns = zip(
            edges[:-1], edges[1:], field.centres.tolist(),
            *_listed(field.error_per_token), *_listed(field.running_bits),
            strict=True,
        )  # fmt: skip
        total, spread = _listed(field.total_bits)
        return [header, *columns, (edges[-1], math.inf, math.inf, "", "", *total, *spread)]

    def draw(self, figure: Figure) -> None:
        """Draw E over γ, and below it the integral up to γ and the cost of decoding."""
        field = self.field
        above, below = figure.subplots(2, 1, sharex=True)
        error, spread = field.error_per_token
        above.plot(field.centres, error, color=COLOURS[0])
        above.fill_between(
            field.centres, error - spread, error + spread, color=COLOURS[0], alpha=0.35, lw=0
        )
        above.set_ylabel("error E(x, γ) per token\n(dimensionless)")
        above.set_ylim(bottom=0)
        bits, spread = field.running_bits
        below.plot(field.edges[1:], bits, color=COLOURS[0], label="½ ∫ E dγ from 0 to γ")
        below.fill_between(
            field.edges[1:], bits - spread, bits + spread, color=COLOURS[0], alpha=0.35, lw=0
        )
        total, error_bar = field.total_bits
        below.errorbar(
            [float(field.edges[-1])], [float(total)], [float(error_bar)],
            color=COLOURS[1], marker="o", capsize=3, linestyle="none",
            label=f"decoding the rest: + {field.remainder_bits:.1g}, "
            f"in all {float(total):.3f} ± {float(error_bar):.3f}",
        )  # fmt: skip
        below.set_ylabel("bits per character up to γ")
        below.set_ylim(bottom=0)
        below.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        for axes in (above, below):
            snr_axis(axes)
        above.set_xlabel("")
        above.set_title(f"{field.described}; bands are ± 1 standard error", color=INK)


def measure(
    denoiser: Denoiser,
    text: HeldOut,
    generator: torch.Generator,
    num_strata: int = NUM_STRATA,
    spacing: Spacing = SPACING,
) -> ErrorField:
    """Measure the errors of a denoiser over γ.

    Args:
        denoiser: Gives the posterior.
        text: Windows of text, or sequences.
        generator: Source of γ and of the noise.
        num_strata: Values of γ per window, at least 1.
        spacing: Where γ is drawn; it must end at a finite γ_max.

    Returns:
        The field; its total is an unbiased estimate of the line integral along the diffusion path
        of that spacing with decoding at its end. Costs `num_strata + 1` denoiser calls per window
        or sequence.
    """
    windows = len(text)
    times = draw_stratified(windows, num_strata, generator).cpu()
    snr, rate = spacing.quantile(times), spacing.rate(times)
    squares = torch.stack(
        [
            measured(denoiser, text, column, generator, lambda p: p.errors.sum(-1))
            for column in snr.unbind(-1)
        ],
        -1,
    )
    end = torch.full((windows,), spacing.snr_max)
    remainder = measured(denoiser, text, end, generator, lambda p: p.nats.sum(-1))
    return ErrorField(
        spacing.quantile(torch.linspace(0, 1, num_strata + 1, dtype=torch.float64)),
        snr,
        squares,
        0.5 * rate * squares / num_strata,
        remainder,
        text.characters,
        text.num_free,
        text.described,
    )


def mean_and_stderr(
    values: Float[Tensor, "windows *columns"], sizes: Real[Tensor, "windows *columns"] | None = None
) -> Columns:
    """Return the mean over windows, given in the order of the text, and its standard error.

    Args:
        values: One row per window.
        sizes: For a mean per character or token: the number of them in each value's sum. By
            default the mean is that of the values.

    Returns:
        Both, column by column; the error is over blocks of neighbouring windows
        (`core.standard_errors`), NaN for a single window.
    """
    sizes = torch.ones_like(values) if sizes is None else sizes.to(values)
    return values.sum(0) / sizes.sum(0), ratio_stderr(values, sizes)


def _listed(columns: Columns) -> tuple[list[float], list[float]]:
    mean, stderr = columns
    return mean.tolist(), stderr.tolist()
