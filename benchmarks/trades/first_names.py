"""The names of docs/results/names.md: how many sampled ones are new, repeated, or held out.

    python benchmarks/trades/first_names.py FILE [NAME=SAMPLES.json ...]

SAMPLES.json is the output of `stochloc sample --json` of a run that was trained on FILE with the
usual shares; the split is the run's own, so no name of the test part has been trained on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from markov import END, Markov, mean

from stochloc.data.sequence_corpora import load_sequences
from stochloc.data.sequences import Sequences
from stochloc.data.tokenizers.protocol import Tokenizer

LONGEST = 30


def parts_of(file: str) -> dict[str, list[str]]:
    """Return the names of the training, validation and test part of a run on a file."""
    corpus = load_sequences(file)
    return {name: _texts(part, corpus.tokenizer) for name, part in corpus.parts.items()}


def _texts(part: Sequences, tokenizer: Tokenizer) -> list[str]:
    spans = zip(part.starts, part.lengths, strict=True)
    return [tokenizer.decode(part.flat[start : start + length]) for start, length in spans]


def shares(names: Sequence[str], train: set[str], held_out: set[str]) -> list[str]:
    """Return what sampled names are.

    Args:
        names: The samples.
        train: Names of the training part.
        held_out: Real names that were not trained on.

    Returns:
        With standard errors, the shares of names that are in the training part, of names that are
        real but held out, of names that are in neither, and of names drawn before.
    """
    seen: set[str] = set()
    again = []
    for name in names:
        again.append(name in seen)
        seen.add(name)
    kinds = [[name in train for name in names], [name in held_out for name in names]]
    kinds.append([name not in train | held_out for name in names])
    return [mean(np.array(kind, dtype=np.float64)) for kind in (*kinds, again)]


def report(file: str, named: Sequence[str]) -> None:
    """Print the tables."""
    parts = parts_of(file)
    train, held_out = parts["train"], set(parts["valid"]) | set(parts["test"])
    print("order | bits per name, valid | bits per name, test | bits per letter and end, test")
    tried = [Markov.fit([name + END for name in train], order) for order in range(1, 8)]
    costs = {}
    for model in tried:
        valid, test = (
            np.array([model.bits(name + END) for name in parts[part]]) for part in ("valid", "test")
        )
        costs[model] = valid.sum()
        letters = np.array([len(name) + 1 for name in parts["test"]])
        rate = f"{test.sum() / letters.sum():.3f}"
        print(model.order, mean(valid), mean(test), rate, sep=" | ")
    best, generator = min(tried, key=lambda model: costs[model]), np.random.default_rng(0)
    sets = {f"Markov, order {best.order}": [best.sample(LONGEST, generator) for _ in range(2000)]}
    for name, samples in (given.split("=") for given in named):
        sets[name] = json.loads(Path(samples).read_text())["samples"]
    sets["test names"] = parts["test"]
    print("set | names | in training | real, held out | neither | drawn before | letters")
    for name, names in sets.items():
        sizes = np.array([len(one) for one in names], dtype=np.float64)
        told = shares(names, set(train), held_out)
        print(name, len(names), *told, mean(sizes), sep=" | ")
        print("   ", " ".join(names[:12]))


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("samples", nargs="*")
    given = parser.parse_args()
    report(given.file, given.samples)


if __name__ == "__main__":
    main()
