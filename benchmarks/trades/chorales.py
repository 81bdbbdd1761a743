"""The chorales of docs/results/chorales.md: from JSON to text and back, and figures of the harmony.

    python benchmarks/trades/chorales.py convert jsb-chorales-quarter.json OUT [--transpose 3]
    python benchmarks/trades/chorales.py fill RUN FOLDER [--number 16] [--ranges] [--draws 4]

A chorale becomes a line of four characters a quarter note: soprano, alto, tenor, bass. A pitch is
one character of `ALPHABET`, a rest a full stop. `convert` writes train.txt (each chorale in several
keys), valid.txt, test.txt and voices.csv, the coordinates of every place: its voice, and its
quarter note of four. `fill` gives the soprano of test chorales to a run and reports on the rest.
"""

import argparse
import json
import string
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from markov import mean

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
LOWEST, VOICES, REST = 40, 4, "."
# Chords of fewer than four notes: which note each voice sings, bass first, no voice above another.
SHARED = {1: [(0,) * 4], 2: [(0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 1, 1)],
          3: [(0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2)], 4: [(0, 1, 2, 3)]}  # fmt: skip
Chord = tuple[int, ...]


def voiced(chords: Sequence[Sequence[int]]) -> list[Chord]:
    """Return the chords with a note for each voice, soprano first; () is a rest of all.

    Where voices share a note the file holds it once: it is given to those voices that then move the
    least from the chord before.
    """
    result: list[Chord] = []
    last: Chord = ()
    for chord in chords:
        notes = sorted(set(chord))
        ways = [tuple(notes[place] for place in way[::-1]) for way in SHARED.get(len(notes), [])]
        voices = min(ways, key=lambda way: sum(abs(a - b) for a, b in zip(way, last, strict=False)),
                     default=())  # fmt: skip
        result.append(voices)
        last = voices or last
    return result


def as_text(chords: Sequence[Chord], shift: int = 0) -> str:
    """Return chords as a line of text, `shift` semitones higher."""
    spelled = (
        "".join(ALPHABET[note + shift - LOWEST] for note in chord) if chord else REST * VOICES
        for chord in chords
    )
    return "".join(spelled)


def as_chords(text: str) -> list[Chord]:
    """Return the chords of a line of text; a voice that rests has no note in its chord.

    Args:
        text: A multiple of four characters.

    Returns:
        The notes of every chord, soprano first.
    """
    columns = (text[begin : begin + VOICES] for begin in range(0, len(text), VOICES))
    return [tuple(ALPHABET.index(c) + LOWEST for c in col if c != REST) for col in columns]


def ranges(texts: Sequence[str]) -> list[set[str]]:
    """Return the characters that each voice sings in the training part, soprano first."""
    return [set("".join(text[voice::VOICES] for text in texts)) for voice in range(VOICES)]


def blanked(text: str) -> str:
    """Return a chorale of which only the soprano is given."""
    return "".join(c if place % VOICES == 0 else "_" for place, c in enumerate(text))


def constraints(text: str, allowed: Sequence[set[str]]) -> list[str]:
    """Return what each blank of a chorale may hold, in the notation of `infill --constraint`."""
    voices = [place % VOICES for place in range(len(text)) if place % VOICES]
    return [f"{n}:{''.join(sorted(allowed[voice]))}" for n, voice in enumerate(voices, start=1)]


@dataclass(frozen=True)
class Verdict:
    """What can be counted in a chorale.

    Attributes:
        in_range: Share of the lower voices' notes that the voice sings in the training part.
        crossing: Share of chords in which a voice lies above one that is higher in the score.
        harsh: Share of chords with two notes a semitone apart, in any octave.
        parallel: Moves of two voices in parallel fifths or octaves, per change of chord.
        agreement: Share of the lower voices' notes that are Bach's.
    """

    in_range: float
    crossing: float
    harsh: float
    parallel: float
    agreement: float


def judge(text: str, real: str, allowed: Sequence[set[str]]) -> Verdict:
    """Return what is counted in a chorale, beside the real one."""
    chords = [chord for chord in as_chords(text) if len(chord) == VOICES]
    lower = [place for place in range(len(text)) if place % VOICES]
    return Verdict(
        float(np.mean([text[place] in allowed[place % VOICES] for place in lower])),
        float(np.mean([list(chord) != sorted(chord, reverse=True) for chord in chords])),
        float(np.mean([_is_harsh(chord) for chord in chords])),
        float(np.mean([_parallels(a, b) for a, b in pairwise(chords)])),
        float(np.mean([text[place] == real[place] for place in lower])),
    )


def _is_harsh(chord: Chord) -> bool:
    return any((a - b) % 12 in (1, 11) for a, b in combinations(chord, 2))


def _parallels(before: Chord, after: Chord) -> int:
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    both = combinations(moved, 2)
    return sum((a - c) % 12 == (b - d) % 12 in (0, 7) for (a, b), (c, d) in both)


def commonest(train: Sequence[str]) -> dict[str, str]:
    """Return the chord that stands most often under each note of the soprano."""
    under: dict[str, Counter[str]] = defaultdict(Counter)
    for text in train:
        for begin in range(0, len(text), VOICES):
            under[text[begin]][text[begin : begin + VOICES]] += 1
    return {note: chords.most_common(1)[0][0] for note, chords in under.items()}


def convert(file: Path, out: Path, keys: int) -> None:
    """Write the texts and the coordinates."""
    out.mkdir(parents=True, exist_ok=True)
    parts = json.loads(file.read_text())
    for name, shifts in (("train", range(-keys, keys + 1)), ("valid", [0]), ("test", [0])):
        songs = [voiced(chords) for chords in parts[name]]
        lines = [as_text(song, shift) for shift in shifts for song in songs]
        (out / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        print(name, len(lines), "chorales, the longest of", max(map(len, lines)), "tokens")
    rows = [f"{place % VOICES},{place // VOICES % 4}\n" for place in range(VOICES * 160)]
    (out / "voices.csv").write_text("voice,beat\n" + "".join(rows))


def filled(run_folder: Path, texts: Sequence[str], given: argparse.Namespace,
           allowed: Sequence[set[str]]) -> Iterator[str]:  # fmt: skip
    """Yield chorales with the lower voices that a run writes, as `stochloc infill` does."""
    from stochloc.tasks.infill.fill import Infilling, infill
    from stochloc.tasks.runs import open_run
    from stochloc.tasks.walks import WalkSettings

    run = open_run(run_folder)
    walk = WalkSettings("masked", num_steps=64, temperature=given.temperature).resolve(run)
    for text in texts:
        asked = constraints(text, allowed) if given.ranges else []
        settings = Infilling(1, given.draws, walk, seed=0)
        result = infill(run, blanked(text), settings, asked, "_", lambda _: None)
        yield result.answers[0].text


def fill(given: argparse.Namespace) -> None:
    """Print the verdicts on the real chorales, on the commonest chords, and on those of the run."""
    folder = Path(given.more[0])
    train, test = ((folder / f"{name}.txt").read_text().split() for name in ("train", "test"))
    most = max(map(len, train))
    test = [text for text in test if len(text) <= most and REST not in text][: given.number]
    allowed, common = ranges(train), commonest(train)
    answers = {
        "Bach": test,
        "commonest chord": ["".join(common[note] for note in text[::VOICES]) for text in test],
        "run": list(filled(given.place, test, given, allowed)),
    }
    print("chorales |", " | ".join(Verdict.__dataclass_fields__))
    for name, texts in answers.items():
        verdicts = [judge(text, real, allowed) for text, real in zip(texts, test, strict=True)]
        rows = np.array([list(vars(verdict).values()) for verdict in verdicts])
        print(name, *(mean(column) for column in rows.T), sep=" | ")
    kept = [a[::VOICES] == b[::VOICES] and len(a) == len(b)
            for a, b in zip(answers["run"], test, strict=True)]  # fmt: skip
    print("chorales with the soprano and every beat kept:", sum(kept), "of", len(kept))
    print(answers["run"][0], test[0], sep="\n")


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["convert", "fill"])
    parser.add_argument("place", type=Path)
    parser.add_argument("more", nargs=1)
    parser.add_argument("--transpose", type=int, default=3)
    parser.add_argument("--number", type=int, default=16)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--ranges", action="store_true")
    given = parser.parse_args()
    if given.what == "convert":
        convert(given.place, Path(given.more[0]), given.transpose)
    else:
        fill(given)


if __name__ == "__main__":
    main()
