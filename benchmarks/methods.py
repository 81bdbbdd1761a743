"""The cost of a training update of each method, relative to a plain encoder.

    python benchmarks/methods.py [--rounds 10] [--threads 2] [--half] [--smoke]

With `--half` each method is timed a second time with the transformer's products in bfloat16; with
`--smoke` small models are timed in two rounds.

Every method of the comparison is timed in turn with a plain pre-norm encoder (torch's own) of the
same size on the same batch, including loss, gradient, clipping, AdamW and weight averaging; for the
ratios see `overhead.py`. Medians and quartiles of the ratio of processor times.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from overhead import SMOKE, VOCABULARY, PlainEncoder, Size, ratios, update_of
from torch import Tensor
from torch.nn import functional as F

from stochloc.methods import METHODS, TABLE_1, Frame, Method
from stochloc.nn import Backbone
from stochloc.training.update import OneProcess

SIZE = Size(4, 128, 4, 32, 128)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=TABLE_1)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="small models, two rounds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size, rounds = (SMOKE, 2) if options.smoke else (SIZE, options.rounds)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (size.batch, size.length), generator=generator)
    frame = Frame(
        torch.bincount(tokens.flatten(), minlength=VOCABULARY),
        size.length,
        Backbone(size.width, size.depth, size.heads),
    )
    plain = PlainEncoder(size, "gelu")
    group: dict[str, Callable[[], object]] = {
        "plain": update_of(
            plain, lambda: F.cross_entropy(plain(tokens).transpose(1, 2), tokens), False
        )
    }
    for name in options.methods:
        for is_half in (False, True) if options.half else (False,):
            method = METHODS[name](frame)
            engine = OneProcess(torch.device("cpu"), is_half)
            group[f"{name}, bfloat16" if is_half else name] = update_of(
                method, partial(_loss, method, engine, tokens, generator), True
            )
    print("| method | update / plain encoder | quartiles |\n|---|---|---|")
    for name, values in ratios(group, rounds).items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} |")


def _loss(method: Method, engine: OneProcess, tokens: Tensor, generator: torch.Generator) -> Tensor:
    with engine.autocast():
        return method.loss(tokens, generator)


if __name__ == "__main__":
    main()
