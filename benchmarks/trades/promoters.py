"""The promoters of docs/results/promoters.md: a split without leaks, samples beside real ones.

    python benchmarks/trades/promoters.py split FILE OUT
    python benchmarks/trades/promoters.py markov FOLDER [--orders 8]
    python benchmarks/trades/promoters.py report FOLDER [NAME=SAMPLES.json ...]

`split` writes train.txt, valid.txt and test.txt. Promoters that share a piece of 32 bases (two
starts of one gene, or a repeat) stay in one part. `report` compares sets of sequences with the test
part; SAMPLES.json is the output of `stochloc sample --json`.
"""

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from markov import Markov, mean
from numpy.typing import NDArray

PIECE, START_SITE = 32, 249
TATA = re.compile("(?=TATA[AT]A)")
NEAR = range(START_SITE - 40, START_SITE - 19)
PAIRS = ["".join(pair) for pair in product("ACGT", repeat=2)]
SHARES = (0.8, 0.1)


def families(sequences: Sequence[str]) -> list[list[int]]:
    """Return the numbers of the sequences, together where they share a piece."""
    first: dict[str, int] = {}
    parent = list(range(len(sequences)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for number, sequence in enumerate(sequences):
        for piece in pieces(sequence):
            parent[root(number)] = root(first.setdefault(piece, number))
    found: dict[int, list[int]] = defaultdict(list)
    for number in range(len(sequences)):
        found[root(number)].append(number)
    return list(found.values())


def pieces(sequence: str) -> Iterable[str]:
    """Yield the overlapping pieces of a sequence."""
    return (sequence[begin : begin + PIECE] for begin in range(len(sequence) - PIECE + 1))


def split(sequences: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Return training, validation and test part, families undivided.

    Args:
        sequences: All of them.
        seed: Which families go where.

    Returns:
        The parts by name.
    """
    groups = families(sequences)
    random.Random(seed).shuffle(groups)
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for group in groups:
        done = sum(map(len, parts.values())) / len(sequences)
        name = "train" if done < SHARES[0] else "valid" if done < sum(SHARES) else "test"
        parts[name] += [sequences[number] for number in group]
    return parts


def pair_frequencies(sequences: Sequence[str]) -> NDArray[np.float64]:
    """Return how often each pair of neighbours occurs in every sequence, (sequences, 16)."""
    rows = [[len(re.findall(f"(?={pair})", text)) for pair in PAIRS] for text in sequences]
    counts = np.array(rows, dtype=np.float64)
    return counts / counts.sum(1, keepdims=True)


def tata_counts(sequences: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for every sequence whether a TATA box begins 20 to 40 bases before its start site.

    Args:
        sequences: Promoters, the start of transcription at `START_SITE`.

    Returns:
        1 or 0 for each, and how many boxes begin anywhere else in it.
    """
    places = [[match.start() for match in TATA.finditer(text)] for text in sequences]
    near = np.array([any(place in NEAR for place in found) for found in places], dtype=np.float64)
    far = np.array([sum(place not in NEAR for place in found) for found in places])
    return near, far.astype(np.float64)


def describe(name: str, sequences: Sequence[str], real: Sequence[str], known: set[str]) -> str:
    """Return a line of the table: a set of sequences beside the real ones.

    Args:
        name: Of the set.
        sequences: The set.
        real: The test part.
        known: Pieces of the training part.

    Returns:
        A row of Markdown.
    """
    near, far = tata_counts(sequences)
    pairs = pair_frequencies(sequences)
    apart = np.abs(pairs.mean(0) - pair_frequencies(real).mean(0)).sum() / 2
    copied = np.array([any(piece in known for piece in pieces(text)) for text in sequences])
    gc = np.array([(text.count("G") + text.count("C")) / len(text) for text in sequences])
    cells = [name, f"{len(sequences)}", mean(near), mean(far), mean(pairs[:, PAIRS.index("CG")])]
    return " | ".join([*cells, f"{gc.std():.3f}", f"{apart:.4f}", f"{copied.mean():.3f}"])


def histogram(sequences: Sequence[str], width: int = 20) -> list[float]:
    """Return the TATA boxes per sequence that begin in each stretch of `width` places."""
    places = [match.start() for text in sequences for match in TATA.finditer(text)]
    counts, _ = np.histogram(places, bins=np.arange(0, 300 + width, width))
    return [round(float(count) / len(sequences), 3) for count in counts]


def read_part(folder: Path, name: str) -> list[str]:
    """Return the sequences of a part."""
    return (folder / f"{name}.txt").read_text().split()


def best_order(folder: Path, orders: int) -> Markov:
    """Return the Markov model of the order that suits the validation part, and print all."""
    train, valid, test = (read_part(folder, name) for name in ("train", "valid", "test"))
    tried = [Markov.fit(train, order) for order in range(orders + 1)]
    for model in tried:
        rates = (
            np.array([model.bits(text) / len(text) for text in part]) for part in (valid, test)
        )
        print(model.order, *map(mean, rates), sep=" | ")
    return min(tried, key=lambda model: sum(map(model.bits, valid)))


def report(folder: Path, named: Sequence[str]) -> None:
    """Print the tables."""
    train, test = read_part(folder, "train"), read_part(folder, "test")
    known = {piece for text in train for piece in pieces(text)}
    sets = {"test": test, "valid": read_part(folder, "valid"), "train": train}
    model, generator = best_order(folder, 8), np.random.default_rng(0)
    sets[f"Markov, order {model.order}"] = [model.sample(300, generator) for _ in range(1000)]
    for name, file in (given.split("=") for given in named):
        sets[name] = json.loads(Path(file).read_text())["samples"]
    print("set | sequences | TATA near | TATA elsewhere | CG | spread of GC | pairs apart | copied")
    for name, sequences in sets.items():
        print(describe(name, sequences, test, known))
    for name, sequences in sets.items():
        print(name, histogram(sequences))


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["split", "markov", "report"])
    parser.add_argument("place", type=Path)
    parser.add_argument("more", nargs="*")
    parser.add_argument("--orders", type=int, default=8)
    given = parser.parse_args()
    if given.what == "markov":
        best_order(given.place, given.orders)
    elif given.what == "report":
        report(given.place, given.more)
    else:
        out = Path(given.more[0])
        out.mkdir(parents=True, exist_ok=True)
        for name, part in split(given.place.read_text().split()).items():
            (out / f"{name}.txt").write_text("".join(f"{text}\n" for text in part))
            print(name, len(part))


if __name__ == "__main__":
    main()
