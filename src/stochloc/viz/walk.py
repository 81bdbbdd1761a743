"""A walk as a heat map: the SNR of every token after every step, with the text underneath."""

import math
from dataclasses import dataclass

import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from stochloc.core import Denoiser, Policy, Transition, localize, start
from stochloc.viz.files import Rows
from stochloc.viz.style import INK, SNR_LABEL


@dataclass(frozen=True)
class WalkPicture:
    """The SNRs of one walk and the text at its end.

    Attributes:
        snr: γ in `[0, ∞]` after every step, one list of tokens per step; ∞ is a known token.
        likely: The most likely value of every token after every step, as text.
        text: The final value of every token, as text.
    """

    snr: list[list[float]]
    likely: list[list[str]]
    text: list[str]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return max(4.5, 0.13 * len(self.text) + 1.5), 4.0

    def rows(self) -> Rows:
        """Return step, position, tokens and SNR (dimensionless)."""
        header = ("step", "position (tokens)", "token", "likely_token", "snr (dimensionless)")
        return [header] + [
            (n, i, self.text[i], self.likely[n - 1][i], value)
            for n, row in enumerate(self.snr, start=1)
            for i, value in enumerate(row)
        ]

    def draw(self, figure: Figure) -> None:
        """Draw log γ as colour, tokens along x, steps along y; known tokens in grey."""
        snr = torch.tensor(self.snr, dtype=torch.float64)
        axes = figure.add_subplot()
        uncertain = snr.masked_fill(snr.isinf() | (snr == 0), math.nan)
        extent = (-0.5, len(self.text) - 0.5, len(self.snr) + 0.5, 0.5)
        known = torch.where(snr.isinf(), 1.0, math.nan)
        axes.imshow(
            known.numpy(),
            aspect="auto",
            extent=extent,
            cmap="Greys",
            vmin=0,
            vmax=2,
            interpolation="none",
        )
        if not bool(uncertain.isnan().all()):
            image = axes.imshow(
                uncertain.numpy(), aspect="auto", extent=extent, cmap="viridis",
                interpolation="none", norm=LogNorm(),
            )  # fmt: skip
            bar = figure.colorbar(image, ax=axes, label=SNR_LABEL, format="{x:g}")
            bar.minorformatter = NullFormatter()
        labels = ["".join(map(_visible, token)) for token in self.text]
        axes.set_xticks(range(len(labels)), labels, parse_math=False)
        if max(map(len, labels)) > 1:
            axes.tick_params("x", labelrotation=90)
        axes.tick_params("x", length=0, labelsize=7, labelfontfamily="monospace")
        axes.set_xlabel("token, in order of position (· is a space)")
        axes.set_ylabel("step of the walk")
        handles = [
            Patch(facecolor="#959595", label="known (γ = ∞)"),
            Patch(facecolor="none", edgecolor=INK, label="masked (γ = 0)"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)


def measure(
    denoiser: Denoiser,
    length: int,
    policy: Policy,
    transition: Transition,
    num_steps: int,
    read: list[str],
    generator: torch.Generator,
) -> WalkPicture:
    """Run one walk and record the SNR of every token.

    Args:
        denoiser: Gives the posterior.
        length: Tokens of the text.
        policy: Allocates SNR.
        transition: Takes the steps.
        num_steps: Steps requested, at least 1.
        read: The text of every token of the vocabulary, `(V,)`.
        generator: Source of all randomness.

    Returns:
        The data of the figure. Costs as many denoiser calls as the walk.

    Raises:
        ValueError: The policy cannot walk in so few steps.
    """
    state, rows, likely = start(denoiser.codebook, 1, length), [], []
    with torch.no_grad():
        for step in localize(denoiser, state, policy, transition, num_steps, generator):
            state = step.state
            snr = state.snr.masked_fill(state.is_known, torch.inf)
            rows.append([float(value) for value in snr[0].tolist()])
            modes = torch.where(state.is_known, state.known, step.posterior.mode)
            likely.append([read[token] for token in modes[0].tolist()])
    return WalkPicture(rows, likely, [read[token] for token in state.known[0].tolist()])


def _visible(character: str) -> str:
    """Replace characters that have no glyph or must not occur in an SVG file."""
    if character.isprintable() and not character.isspace():
        return character
    return {" ": "·", "\n": "↵"}.get(character, "¤")
