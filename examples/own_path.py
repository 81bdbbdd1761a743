"""A path of one's own: tokens are decided from both ends towards the middle.

    python examples/own_path.py

With the exact denoiser its bound and its line integral must give the true cost, as every path's.
"""

import math
from dataclasses import dataclass

import torch

from stochloc import core
from stochloc.core.paths.base import Free, Steps, offered
from stochloc.core.paths.orders import rank_free
from stochloc.core.streams import Randomness
from stochloc.data import Cyclic


@dataclass(frozen=True)
class EndsFirst(core.Path):
    """Tokens go from 0 to ∞ one after another, from both ends towards the middle."""

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> core.Grid:
        """Return a grid that decides equal numbers of tokens a step."""
        num_free, ranks = free.sum(-1, keepdim=True), self._ranks(free)
        steps = torch.minimum(offered(num_steps, free), num_free)
        late = ranks * steps
        return core.Grid(steps, lambda n: torch.where(free & (late >= n * num_free), 0.0, math.inf))

    def at(self, time: torch.Tensor, free: Free, generator: Randomness) -> core.Point:
        """Return some tokens known; the next one jumps."""
        num_free, ranks = free.sum(-1, keepdim=True), self._ranks(free)
        num_known = (time[:, None] * num_free).long()
        snr = torch.where(free & (ranks >= num_known), 0.0, math.inf).to(time)
        jump = (free & (ranks == num_known)) * num_free.to(time)
        return core.Point(snr, torch.zeros_like(snr), jump)

    def _ranks(self, free: Free) -> torch.Tensor:
        places = torch.arange(free.shape[-1])
        return rank_free(torch.minimum(places, places.flip(0)).expand(free.shape), free)


def main() -> None:
    """Print the cost of the cyclic sequences along this path."""
    generator, world = torch.Generator().manual_seed(0), Cyclic(5).enumerate(5)
    denoiser, path = core.ExactDenoiser(core.SimplexCodebook(5), *world), EndsFirst()
    walked = core.bound(denoiser, world[0], core.Follow(path), core.Ancestral(), 5, generator)
    whole = core.line_integral(denoiser, world[0].repeat(50, 1), path, 16, generator)
    print(f"bound {walked.mean:.4f}, line integral {whole.mean:.4f} ± {whole.stderr:.4f}")
    print(f"truth {math.log(5):.4f}")


if __name__ == "__main__":
    main()
