"""Is the posterior calibrated? Two figures of its predictions on held-out text.

Reliability: of the tokens predicted with confidence c, a fraction c should be correct.
Uncertainty: if codes are distributed as the posterior says, `E‖x - x̂‖² = 1 - ‖x̂‖²`; the right
    side needs no labels, so where both agree the model predicts its own error.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from matplotlib.figure import Figure
from torch import Tensor

from stochloc.core import Denoiser
from stochloc.core.standard_errors import ratio_stderr
from stochloc.viz.error import Columns, mean_and_stderr
from stochloc.viz.files import Rows
from stochloc.viz.held_out import HeldOut, PerToken, Prediction, measured
from stochloc.viz.style import COLOURS, INK, MARKERS, snr_axis

SNRS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 9.0, 12.0, 18.0, 27.0, 40.0)
RELIABILITY_SNRS = (1.0, 3.0, 6.0, 12.0)
NUM_BINS = 10
# Bins of fewer tokens are too noisy to draw; their tokens are still counted.
LEAST_DRAWN = 30


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence and correctness at one γ, in bins of equal width.

    Attributes:
        snr: γ of all tokens.
        counts: Tokens in every bin.
        confidence: Their mean confidence, NaN in an empty bin.
        accuracy: The share of them whose most likely value was the true one.
        stderr: Standard error of `accuracy` minus `confidence`, over windows or sequences.
    """

    snr: float
    counts: Float[Tensor, " bins"]
    confidence: Float[Tensor, " bins"]
    accuracy: Float[Tensor, " bins"]
    stderr: Float[Tensor, " bins"]


@dataclass(frozen=True, eq=False)
class ReliabilityPicture:
    """Reliability at several γ.

    Attributes:
        curves: One for each γ.
    """

    curves: list[Reliability]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.6, 5.4

    def rows(self) -> Rows:
        """Return a row per γ and bin."""
        header = (
            "snr (dimensionless)", "confidence_from", "confidence_to", "count (tokens)",
            "mean_confidence (share)", "accuracy (share)", "accuracy_minus_confidence_stderr",
        )  # fmt: skip
        return [header] + [
            (c.snr, k / NUM_BINS, (k + 1) / NUM_BINS, int(c.counts[k]),
             float(c.confidence[k]), float(c.accuracy[k]), float(c.stderr[k]))
            for c in self.curves
            for k in range(NUM_BINS)
        ]  # fmt: skip

    def draw(self, figure: Figure) -> None:
        """Draw accuracy over confidence, and below it how many tokens each bin holds."""
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        for k, curve in enumerate(self.curves):
            filled, drawn = curve.counts > 0, curve.counts >= LEAST_DRAWN
            above.errorbar(
                curve.confidence[drawn].tolist(), curve.accuracy[drawn].tolist(),
                curve.stderr[drawn].tolist(), color=COLOURS[k], marker=MARKERS[k], markersize=4,
                capsize=2, linewidth=1.2, label=f"γ = {curve.snr:g}",
            )  # fmt: skip
            middles = (torch.arange(NUM_BINS) + 0.5)[filled] / NUM_BINS
            below.plot(
                middles.tolist(), curve.counts[filled].tolist(), color=COLOURS[k],
                marker=MARKERS[k], markersize=4, linewidth=1.2,
            )  # fmt: skip
        above.set(xlim=(0, 1.02), ylim=(0, 1.02))
        above.set_ylabel("share of tokens that are right")
        below.set_yscale("log")
        below.set_ylabel("count (tokens)")
        below.set_xlabel("confidence: probability of the most likely token")
        above.legend(loc="upper left")
        for axes in (above, below):
            axes.grid(True)


@dataclass(frozen=True, eq=False)
class UncertaintyPicture:
    """The error, and the error that the posterior predicts, over γ.

    Attributes:
        snr: Values of γ.
        errors: `‖x - x̂‖²`, the sum over the free tokens of each window or sequence.
        claims: `1 - ‖x̂‖²`, likewise.
        num_free: The number of these tokens.
        described: How many windows or sequences there are, in words.
    """

    snr: list[float]
    errors: Float[Tensor, "windows snrs"]
    claims: Float[Tensor, "windows snrs"]
    num_free: Int[Tensor, " windows"]
    described: str

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.6, 5.0

    def rows(self) -> Rows:
        """Return a row per γ."""
        header = (
            "snr (dimensionless)", "error (dimensionless)", "error_stderr",
            "claimed_error (dimensionless)", "claimed_error_stderr",
            "error_minus_claim (dimensionless)", "error_minus_claim_stderr",
        )  # fmt: skip
        columns = [
            column.tolist()
            for values in (self.errors, self.claims, self.errors - self.claims)
            for column in self.per_token(values)
        ]
        return [header, *zip(self.snr, *columns, strict=True)]

    def per_token(self, values: Float[Tensor, "windows snrs"]) -> Columns:
        """Return the mean per token of sums over tokens, and its standard error."""
        return mean_and_stderr(values, self.num_free[:, None].expand_as(values))

    def draw(self, figure: Figure) -> None:
        """Draw both over γ, and below them their difference."""
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        curves = (("E‖x - x̂‖²", self.errors, "-"), ("1 - ‖x̂‖²", self.claims, "--"))
        for k, (label, values, line) in enumerate(curves):
            mean, stderr = (v.tolist() for v in self.per_token(values))
            above.errorbar(
                self.snr, mean, stderr, color=COLOURS[k], marker=MARKERS[k], markersize=4,
                capsize=2, linewidth=1.2, linestyle=line, label=label,
            )  # fmt: skip
        mean, stderr = (v.tolist() for v in self.per_token(self.errors - self.claims))
        below.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        below.errorbar(
            self.snr, mean, stderr, color=COLOURS[2], marker=MARKERS[2], markersize=4, capsize=2,
            linewidth=1.2,
        )  # fmt: skip
        above.set_ylim(bottom=0)
        above.set_ylabel("per token (dimensionless)")
        below.set_ylabel("difference\n(dimensionless)")
        above.legend()
        for axes in (above, below):
            snr_axis(axes)
        above.set_xlabel("")
        above.set_title(f"{self.described}; bars are ± 1 standard error")


def measure_reliability(
    denoiser: Denoiser, text: HeldOut, generator: torch.Generator
) -> ReliabilityPicture:
    """Compare confidence with correctness at several γ.

    Args:
        denoiser: Gives the posterior.
        text: Windows of text, or sequences.
        generator: Source of the noise.

    Returns:
        The data of the figure. Costs one denoiser call per window or sequence and γ.
    """
    return ReliabilityPicture(
        [_reliability(snr, denoiser, text, generator) for snr in RELIABILITY_SNRS]
    )


def measure_uncertainty(
    denoiser: Denoiser, text: HeldOut, generator: torch.Generator
) -> UncertaintyPicture:
    """Compare the error with the error that the posterior expects, over γ.

    Args:
        denoiser: Gives the posterior.
        text: Windows of text, or sequences.
        generator: Source of the noise.

    Returns:
        The data of the figure. Costs one denoiser call per window or sequence and γ.
    """
    sums = torch.stack(
        [_at(snr, denoiser, text, generator, _errors_and_claims) for snr in SNRS], -1
    )
    return UncertaintyPicture(list(SNRS), sums[:, 0], sums[:, 1], text.num_free, text.described)


def _at(
    snr: float,
    denoiser: Denoiser,
    text: HeldOut,
    generator: torch.Generator,
    values: Callable[[Prediction], Tensor],
) -> Tensor:
    return measured(denoiser, text, torch.full((len(text),), snr), generator, values)


def _errors_and_claims(prediction: Prediction) -> Float64[Tensor, "windows 2"]:
    return torch.stack([prediction.errors.sum(-1), prediction.claimed_errors.sum(-1)], -1)


def _reliability(
    snr: float, denoiser: Denoiser, text: HeldOut, generator: torch.Generator
) -> Reliability:
    """Sum over windows within bins; the standard error is over blocks of windows."""
    counts, sure, right = _at(snr, denoiser, text, generator, _in_bins).unbind(1)
    total = counts.sum(0)
    stderr = ratio_stderr(right - sure, counts)
    return Reliability(snr, total, sure.sum(0) / total, right.sum(0) / total, stderr)


def _in_bins(prediction: Prediction) -> Float64[Tensor, "windows 3 bins"]:
    """Return the tokens in every bin of confidence, their confidence, and how many are right."""
    of_tokens = (prediction.is_free, prediction.confidence, prediction.is_right)
    return torch.stack([_binned(prediction, values) for values in of_tokens], 1)


def _binned(prediction: Prediction, values: PerToken) -> Float64[Tensor, "windows bins"]:
    """Return the sum of values in every bin of confidence, window by window."""
    bins = (prediction.confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    sums = torch.zeros(len(values), NUM_BINS, dtype=torch.float64)
    return sums.scatter_add(-1, bins, values)
