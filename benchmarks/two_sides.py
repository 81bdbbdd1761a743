"""What a two-sided network costs over an encoder of as many parameters, in processor time.

The join of both sides holds as many weights as a block, so the encoder has a block more. Four
things are timed in turn: an update of each (loss, gradient, clipping, AdamW, weight average) with
its recipe's law of γ, and a forward pass of each beside a step of its walk. Each round times every
candidate once, in rotating order, and ratios are formed within a round; printed are their medians
with quartiles.

    python benchmarks/two_sides.py [--rounds 9] [--threads 1] [--half] [--smoke]
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from overhead import ratios, update_of

from stochloc.core import Ancestral, Follow, Masked, Path, Spread, start
from stochloc.core import sample as draw_sample
from stochloc.nn import Backbone, LocalizationModel
from stochloc.nn.backbones.products import half_products
from stochloc.training.choices import OURS, SEEING, Choices
from stochloc.training.objective import cross_entropy

VOCABULARY = 27
STEPS = 8


@dataclass(frozen=True)
class Size:
    """A model, and the batches it is trained on and walked with."""

    backbone: Backbone
    batch: int
    length: int


SIZES = (Size(Backbone(128, 4, 4), 32, 128), Size(Backbone(384, 6, 6), 16, 256))
SMOKE = (Size(Backbone(16, 2, 2), 2, 8),)


def model_of(choices: Choices, backbone: Backbone) -> LocalizationModel:
    """Return a model with output weights that are not 0."""
    torch.manual_seed(0)
    model = LocalizationModel(choices.model(VOCABULARY, backbone))
    torch.nn.init.normal_(model.head, std=0.1)
    return model


def models(size: Size) -> dict[str, tuple[LocalizationModel, Choices]]:
    """Return both networks; the one named "plain" is the denominator."""
    one = size.backbone
    deeper = Backbone(one.width, one.depth + 1, one.heads, one.rotary_base, one.neighbour_logit)
    encoder, two_sided = model_of(SEEING, deeper), model_of(OURS, one)
    extra = two_sided.num_parameters / encoder.num_parameters - 1
    assert abs(extra) < 0.02, extra
    return {"plain": (encoder, SEEING), "two-sided": (two_sided, OURS)}


def updates(size: Size, half: bool) -> dict[str, Callable[[], object]]:
    """Return an update of each network."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (size.batch, size.length), generator=generator)

    def update(model: LocalizationModel, choices: Choices) -> Callable[[], object]:
        def loss() -> torch.Tensor:
            with half_products() if half else nullcontext():
                return cross_entropy(model, tokens, choices.law, generator)

        return update_of(model, loss, True)

    return {name: update(*pair) for name, pair in models(size).items()}


def steps_of(model: LocalizationModel, size: Size) -> dict[str, Callable[[], object]]:
    """Return as many forward passes as a walk has steps, and walks."""
    generator = torch.Generator().manual_seed(0)
    state = start(model.codebook, size.batch, size.length)

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                model(state)

    def walk(path: Path) -> Callable[[], object]:
        return lambda: draw_sample(model, state, Follow(path), Ancestral(), STEPS, generator)

    return {"plain": forwards, "masked": walk(Masked()), "spread": walk(Spread())}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--half", action="store_true", help="updates multiply in bfloat16")
    parser.add_argument("--smoke", action="store_true", help="small models, two rounds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = 2 if options.smoke else options.rounds
    for size in SMOKE if options.smoke else SIZES:
        groups = {"update": updates(size, options.half)}
        groups |= {
            f"{STEPS} forward passes of the {name} model": steps_of(model, size)
            for name, (model, _) in models(size).items()
        }
        for title, group in groups.items():
            shape = f"{size.backbone.depth} blocks of {size.backbone.width}"
            print(f"{shape}, {size.batch} x {size.length}: over the plain {title}", flush=True)
            for name, values in ratios(group, rounds).items():
                low, middle, high = statistics.quantiles(values, n=4)
                print(f"  {name:12s} {middle:.3f}  (quartiles {low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
