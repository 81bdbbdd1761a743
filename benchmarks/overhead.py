"""The overhead of localization over a plain transformer, in processor time.

One training update and one sampling step are timed in turn with those of a plain pre-norm encoder
(torch's own `TransformerEncoder` behind an embedding and a linear head) of the same size on the
same batch, with the same optimiser and gradient clipping. Each round times every candidate once,
in rotating order, so that noise of the machine affects all alike; ratios are formed within a round,
and their median is printed with its quartiles.

    python benchmarks/overhead.py [--rounds 15] [--threads 2] [--smoke]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core import Ancestral, Diffusion, Euler, Follow, Masked, Path, Transition, start
from stochloc.core import sample as draw_sample
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.training.ema import AveragedWeights
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import TrainingConfig

VOCABULARY = 27
CONFIG = TrainingConfig(learning_rate=1e-4)
SAMPLING_STEPS = 4


@dataclass(frozen=True)
class Size:
    """A model and a batch."""

    depth: int
    width: int
    heads: int
    batch: int
    length: int = 256


SIZES = (Size(4, 256, 4, 16), Size(12, 768, 12, 4))
SMOKE = Size(1, 16, 2, 2, 8)


class PlainEncoder(nn.Module):
    """Embedding, pre-norm encoder and linear head, without any localization."""

    def __init__(self, size: Size, activation: str) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            size.width, size.heads, 4 * size.width, dropout=0.0, activation=activation,
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.embedding = nn.Embedding(VOCABULARY, size.width)
        self.encoder = nn.TransformerEncoder(layer, size.depth, enable_nested_tensor=False)
        self.head = nn.Linear(size.width, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.encoder(self.embedding(tokens)))


def update_of(model: nn.Module, loss: Callable[[], Tensor], average: bool) -> Callable[[], None]:
    """Return one training update: loss, gradient, clipping, AdamW, weight average if asked for."""
    optimizer = make_optimizer(model, CONFIG)
    averaged = AveragedWeights(model, CONFIG.ema_decay) if average else None

    def update() -> None:
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if averaged is not None:
            averaged.update(100)

    return update


def candidates(size: Size) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the functions to time, by group; the one named "plain" is the denominator."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (size.batch, size.length), generator=generator)
    model = LocalizationModel(
        ModelConfig(VOCABULARY, size.width, size.depth, size.heads, beta=1.0, neighbour_logit=12.0)
    )
    plain = {name: PlainEncoder(size, name) for name in ("gelu", "relu")}

    def plain_loss(encoder: PlainEncoder) -> Tensor:
        return F.cross_entropy(encoder(tokens).transpose(1, 2), tokens)

    def plain_passes() -> None:
        with torch.inference_mode():
            for _ in range(SAMPLING_STEPS):
                plain["gelu"](tokens)

    def walk(path: Path, transition: Transition) -> Callable[[], object]:
        state = start(model.codebook, size.batch, size.length)
        return lambda: draw_sample(
            model, state, Follow(path), transition, SAMPLING_STEPS, generator
        )

    return {
        "training update": {
            "plain": update_of(plain["gelu"], lambda: plain_loss(plain["gelu"]), False),
            "plain with relu": update_of(plain["relu"], lambda: plain_loss(plain["relu"]), False),
            "localization": update_of(
                model, lambda: cross_entropy(model, tokens, CONFIG.law, generator), True
            ),
        },
        f"{SAMPLING_STEPS}-step sampling": {
            "plain": plain_passes,
            "masked, ancestral": walk(Masked(), Ancestral()),
            "diffusion, ancestral": walk(Diffusion(), Ancestral()),
            "diffusion, euler": walk(Diffusion(), Euler()),
        },
    }


def ratios(group: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time a group in turn; return the ratios of each processor time to that of the plain one."""
    names, result = list(group), {name: [] for name in group}
    for number in range(rounds + 1):
        seconds = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.process_time()
            group[name]()
            seconds[name] = time.process_time() - began
        if number:
            for name in names:
                result[name].append(seconds[name] / seconds["plain"])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="small models, two rounds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = 2 if options.smoke else options.rounds
    for size in (SMOKE,) if options.smoke else SIZES:
        for group_name, group in candidates(size).items():
            print(
                f"{size.depth} layers of {size.width}, {size.batch} x {size.length}: {group_name}"
            )
            for name, values in ratios(group, rounds).items():
                low, middle, high = statistics.quantiles(values, n=4)
                print(f"  {name:24s} {middle:.3f}  (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
