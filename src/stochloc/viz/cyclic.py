"""Figures 1b and 2 of the paper: codes on a circle localize, from z = 0 and from corrupted text.

Every token's z is a point of the plane that moves towards the code of one symbol, and ever
further out, because the mean of z is γ times the code. The denoiser is exact and the steps are
Euler steps, as in the paper. The number at the end of a trace identifies the token.
"""

import math
from dataclasses import dataclass
from string import ascii_letters, ascii_lowercase, ascii_uppercase

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from stochloc.core import (
    Denoiser,
    Diffusion,
    Euler,
    Follow,
    Linearised,
    Policy,
    State,
    Uniform,
    localize,
    start,
)
from stochloc.tasks.cyclic import (
    ADAPTIVE_SNR_MAX,
    ADAPTIVE_STEPS,
    CyclicExperiment,
    adaptive_policy,
)
from stochloc.viz.files import Rows
from stochloc.viz.style import COLOURS, INK

MASK = "_"
EARLY_STEPS = ADAPTIVE_STEPS // 10
NUM_FRAMES = 50


@dataclass(frozen=True, eq=False)
class LocalizationPicture:
    """One walk of tokens whose codes lie on a circle.

    Attributes:
        z: Every token's code at the start and after every step, up to where it is decided.
        snr: The γ of every token there.
        symbols: The symbols of the vocabulary, in order around the circle.
        read: The symbol of every token at the start, `_` where it is masked.
        result: The symbol that was decided for every token.
        original: The text before it was corrupted; empty if there was none.
    """

    z: Float[Tensor, "knots length 2"]
    snr: Float[Tensor, "knots length"]
    symbols: list[str]
    read: list[str]
    result: list[str]
    original: list[str]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 9.2, 4.0

    @property
    def frame_size(self) -> tuple[float, float]:
        """Width and height of a frame of the animation in inches."""
        return self.size

    @property
    def num_frames(self) -> int:
        """Frames of the animation."""
        return min(NUM_FRAMES, len(self.z))

    def rows(self) -> Rows:
        """Return step, position, symbols at the start and the end, γ and z (dimensionless)."""
        header = (
            "step", "position (tokens)", "read", "original", "result", "snr (dimensionless)",
            "z_1 (dimensionless)", "z_2 (dimensionless)",
        )  # fmt: skip
        original = self.original or [""] * len(self.read)
        texts = list(zip(self.read, original, self.result, strict=True))
        return [header] + [
            (n, i, *texts[i], float(self.snr[n, i]), *self.z[n, i].tolist())
            for n in range(len(self.z))
            for i in range(len(self.read))
        ]

    def draw(self, figure: Figure) -> None:
        """Draw the first steps on the left and the whole walk on the right."""
        self._draw(figure, len(self.z) - 1)

    def draw_frame(self, figure: Figure, n: int) -> None:
        """Draw the walk up to where frame number n shows it."""
        self._draw(figure, round(n * (len(self.z) - 1) / max(1, self.num_frames - 1)))

    def _draw(self, figure: Figure, last: int) -> None:
        left, right = figure.subplots(1, 2)
        early = min(EARLY_STEPS, len(self.z) - 1)
        self._draw_plane(left, early, min(last, early))
        left.set_title(f"first {early} steps")
        self._draw_plane(right, len(self.z) - 1, last)
        right.set_title(f"after {last} of {len(self.z) - 1} steps")
        starts = [self._start_of(i) for i in range(len(self.read))]
        figure.legend(handles=starts, title="start of token", loc="outside right center")
        is_over = last == len(self.z) - 1
        # A placeholder for the result keeps the layout the same from frame to frame.
        result = self.result if is_over else ["…"] * len(self.result)
        was = f"   (originally {' '.join(self.original)})" if self.original else ""
        figure.suptitle(f"{' '.join(self.read)}  →  {' '.join(result)}{was}", color=INK)

    @property
    def _corrupted(self) -> list[bool]:
        original = self.original or self.read
        return [r not in (MASK, o) for r, o in zip(self.read, original, strict=True)]

    def _start_of(self, i: int) -> Line2D:
        """Return the legend entry of a token's start; in the figure starts may hide each other."""
        colour, read = COLOURS[i % len(COLOURS)], self.read[i]
        starts_as = "masked" if read == MASK else f"read {read}"
        return Line2D(
            [], [], color=colour, marker="X" if self._corrupted[i] else "s", markersize=5,
            label=f"{i + 1}: {starts_as}{', wrongly' if self._corrupted[i] else ''}",
        )  # fmt: skip

    def _draw_plane(self, axes: Axes, reach: int, last: int) -> None:
        limit = 1.25 * float(self.z[: reach + 1].norm(dim=-1).max())
        count = len(self.symbols)
        for k, symbol in enumerate(self.symbols):
            angle, border = 2 * math.pi * k / count, 2 * math.pi * (k + 0.5) / count
            x, y = 0.92 * limit * math.cos(angle), 0.92 * limit * math.sin(angle)
            axes.text(x, y, symbol, ha="center", va="center", fontsize=12, fontweight="bold")
            axes.plot(
                [0, 1.5 * limit * math.cos(border)], [0, 1.5 * limit * math.sin(border)],
                color=INK, linewidth=0.5, alpha=0.5,
            )  # fmt: skip
        for i in range(len(self.read)):
            colour = COLOURS[i % len(COLOURS)]
            x, y = self.z[: last + 1, i].unbind(-1)
            axes.plot(x.tolist(), y.tolist(), color=colour, linewidth=0.9)
            marker = "X" if self._corrupted[i] else "s"
            axes.plot(x[:1].tolist(), y[:1].tolist(), marker, color=colour, markersize=5, zorder=5)
            axes.plot(x[-1:].tolist(), y[-1:].tolist(), "o", color=colour, markersize=9)
            axes.text(
                float(x[-1]), float(y[-1]), str(i + 1), color="white", fontsize=7,
                fontweight="bold", ha="center", va="center_baseline",
            )  # fmt: skip
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        axes.set_xlabel("z, first coordinate (dimensionless)")
        axes.set_ylabel("z, second coordinate (dimensionless)")


def measure(experiment: CyclicExperiment) -> dict[str, LocalizationPicture]:
    """Generate one sequence, and recover one that was corrupted.

    Args:
        experiment: Size, soft mask and seed.

    Returns:
        The pictures "generation", along the diffusion path `γ_i(t) = t`, and "recovery", by the
        adaptive walk.

    Raises:
        ValueError: There are more symbols than letters.
    """
    generator = torch.Generator().manual_seed(experiment.seed)
    denoiser = experiment.denoiser
    nothing = start(denoiser.codebook, 1, experiment.size)
    path = Follow(Diffusion(Uniform(ADAPTIVE_SNR_MAX)))
    generation = _walk(denoiser, path, nothing, generator, "")
    original = denoiser.sample(1, generator)
    damaged = experiment.damage(denoiser, original, generator)
    remembering = Linearised(denoiser)
    policy = adaptive_policy(remembering)
    text = _text(original[0], experiment.size)
    return {
        "generation": generation,
        "recovery": _walk(remembering, policy, damaged, generator, text),
    }


def _walk(
    denoiser: Denoiser, policy: Policy, state: State, generator: torch.Generator, original: str
) -> LocalizationPicture:
    size = state.known.shape[1]
    seen = denoiser.codebook.evidence(state.z)[0].argmax(-1)
    read = [s if snr else MASK for s, snr in zip(_text(seen, size), state.snr[0], strict=True)]
    states = [state]
    with torch.no_grad():
        for step in localize(denoiser, state, policy, Euler(), ADAPTIVE_STEPS, generator):
            states.append(step.state)
    # The last step decides all tokens: they no longer have a z.
    moving = states[:-1]
    return LocalizationPicture(
        torch.stack([s.z[0] for s in moving]),
        torch.stack([s.snr[0] for s in moving]),
        list(_text(torch.arange(size), size)),
        read,
        list(_text(states[-1].known[0], size)),
        list(original),
    )


def _text(tokens: Tensor, size: int) -> str:
    if size > len(ascii_letters):
        raise ValueError(f"The figure has letters for {len(ascii_letters)} symbols, not {size}.")
    letters = ascii_uppercase + ascii_lowercase
    return "".join(letters[token] for token in tokens.tolist())
