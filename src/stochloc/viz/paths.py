"""Figure 1a of the paper: paths through the SNRs of two tokens.

Each path is drawn through the knots at which a walk would stop. A token that is decided jumps to
γ = ∞, shown at the edge of the figure.
"""

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from stochloc.core import Autoregressive, Diffusion, Lomax, Masked, Path
from stochloc.viz.files import Rows
from stochloc.viz.style import COLOURS, INK

NUM_STEPS = 64
EDGE = 10.0
HYBRID_SNR = 3.0


@dataclass(frozen=True)
class PathPicture:
    """The knots of four paths of two tokens.

    Attributes:
        knots: For every path by name, `(γ₁, γ₂)` at every knot, each in `[0, ∞]`.
    """

    knots: dict[str, list[tuple[float, float]]]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.4, 3.8

    def rows(self) -> Rows:
        """Return path, knot and both SNRs (dimensionless)."""
        header = ("path", "knot", "snr_1 (dimensionless)", "snr_2 (dimensionless)")
        return [header] + [
            (name, n, *knot) for name, knots in self.knots.items() for n, knot in enumerate(knots)
        ]

    def draw(self, figure: Figure) -> None:
        """Draw γ₁ against γ₂, with ∞ at the edge."""
        axes = figure.add_subplot()
        for k, (name, knots) in enumerate(self.knots.items()):
            # Where paths coincide they are drawn side by side, not on top of each other.
            aside = 0.12 * (k - 1.5)
            x, y = ([min(knot[i], EDGE) + aside for knot in knots] for i in (0, 1))
            axes.plot(x, y, color=COLOURS[k], label=name, linewidth=2)
        ticks = [0, 2, 4, 6, 8, EDGE]
        labels = ["0", "2", "4", "6", "8", "∞"]
        axes.set_xticks(ticks, labels)
        axes.set_yticks(ticks, labels)
        axes.axhline(EDGE, color=INK, linewidth=0.6, linestyle=":")
        axes.axvline(EDGE, color=INK, linewidth=0.6, linestyle=":")
        axes.set_xlabel("SNR γ of the first token (dimensionless)")
        axes.set_ylabel("SNR γ of the second token (dimensionless)")
        axes.set_aspect("equal")
        figure.legend(loc="outside right center")


def measure(seed: int) -> PathPicture:
    """Return the knots of the autoregressive, masked, diffusion and hybrid paths.

    Args:
        seed: Seed of the masked path's random order.

    Returns:
        The data of the figure; no denoiser call.
    """
    generator = torch.Generator().manual_seed(seed)
    paths: dict[str, Path] = {
        "autoregressive": Autoregressive(),
        "masked": Masked(),
        "diffusion": Diffusion(Lomax(snr_max=math.inf)),
        "hybrid": Diffusion(Lomax(snr_max=HYBRID_SNR)).then(Autoregressive()),
    }
    free = torch.ones(1, 2, dtype=torch.bool)
    grids = {name: path.draw(NUM_STEPS, free, generator) for name, path in paths.items()}
    return PathPicture(
        {
            name: [(float(a), float(b)) for a, b in grid.stack()[:, 0].tolist()]
            for name, grid in grids.items()
        }
    )
