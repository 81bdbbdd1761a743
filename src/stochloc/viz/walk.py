"""A walk as a heat map of the SNR of every token after every step, and as a text that takes shape.

The animation has a cell for each token: its colour is the SNR, its letter the most likely value.
"""

import math
from dataclasses import dataclass

import torch
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullFormatter

from stochloc.core import Denoiser, Policy, Transition, localize, start
from stochloc.viz.files import Rows
from stochloc.viz.style import INK, SNR_LABEL

KNOWN_COLOUR, CELLS_A_LINE = "#959595", 32


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
        figure.legend(handles=_legend(), loc="outside upper left", ncols=2)

    @property
    def frame_size(self) -> tuple[float, float]:
        """Width and height of a frame of the animation in inches."""
        return 0.24 * self._columns + 0.1, 0.24 * self._lines + 0.45

    @property
    def num_frames(self) -> int:
        """Frames of the animation: one for each step."""
        return len(self.snr)

    def draw_frame(self, figure: Figure, n: int) -> None:
        """Draw the text as it is after step n, counted from 0."""
        axes = figure.add_subplot()
        limits = {"xlim": (-0.5, self._columns - 0.5), "ylim": (self._lines - 0.5, -0.5)}
        axes.set(**limits, aspect="equal")
        axes.axis("off")
        norm = self._norm
        for i, (snr, letter) in enumerate(zip(self.snr[n], self.likely[n], strict=True)):
            x, y = i % self._columns, i // self._columns
            colour, ink = _cell(snr, norm)
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white"))
            axes.text(
                x, y, "".join(map(_visible, letter)), color=ink, ha="center", va="center_baseline",
                fontfamily="monospace", parse_math=False,
            )  # fmt: skip
        step = Patch(facecolor="none", label=f"step {n + 1} of {len(self.snr)}")
        figure.legend(handles=[step, *_legend()], loc="outside upper left", ncols=3)

    @property
    def _columns(self) -> int:
        """Cells of a line of the animation, never so few that the legend would not fit."""
        return max(20, min(CELLS_A_LINE, len(self.text)))

    @property
    def _lines(self) -> int:
        return math.ceil(len(self.text) / self._columns)

    @property
    def _norm(self) -> LogNorm:
        """The scale of finite SNRs above 0, the same for all frames; any if there are none."""
        values = [snr for row in self.snr for snr in row if 0 < snr < math.inf] or [1.0]
        return LogNorm(min(values), max(*values, 2 * min(values)))


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


def _legend() -> list[Patch]:
    return [
        Patch(facecolor=KNOWN_COLOUR, label="known (γ = ∞)"),
        Patch(facecolor="none", edgecolor=INK, label="masked (γ = 0)"),
    ]


def _cell(snr: float, norm: LogNorm) -> tuple[str | tuple[float, float, float, float], str]:
    """Return the colour of a token's cell and of the letter in it."""
    if snr == 0:
        return "none", "#b8b8b8"
    if math.isinf(snr):
        return KNOWN_COLOUR, "white"
    red, green, blue, alpha = colormaps["viridis"](norm(snr))
    is_light = 0.3 * red + 0.59 * green + 0.11 * blue > 0.6
    return (red, green, blue, alpha), "#303030" if is_light else "white"


def _visible(character: str) -> str:
    """Replace characters that have no glyph or must not occur in an SVG file."""
    if character.isprintable() and not character.isspace():
        return character
    return {" ": "·", "\n": "↵"}.get(character, "¤")
