"""How well corrupted text is corrected by nothing, hard masks, one pass, full walks and edits.

The texts: held-out text with simulated errors, misspelt words in held-out sentences, newspaper OCR.
Hard masks require a guess where the errors are: every character to which the model, given all
others, assigns a probability below a threshold is masked; the masks are then filled, most confident
first. The threshold is chosen on validation text like the defaults of the soft mask
(`tasks.correct.calibration`). With --examples, more articles of the newspaper, errors are learned
from them (`tasks.correct.confusions`), and one more method shows what their soft masks are good
for: *certain neighbours* weighs every character by the same rates, but takes all others for right,
as a network has to that knows tokens and masks alone. All texts are reduced to a-z and space. ± is
one standard error over texts.

    python benchmarks/correction.py RUN [--noise 0 0.05] [--spelling FOLDER] [--ocr FILE.jsonl]
        [--examples FILE.jsonl] [--only "one pass" "likely edits"]
    python benchmarks/correction.py --smoke
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from smoke import small_run
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Denoiser,
    Diffusion,
    Reveal,
    Tempered,
    leave_one_out,
    sample,
    start,
)
from stochloc.data import held_out_windows
from stochloc.tasks.correct.calibration import Defaults, correction_defaults
from stochloc.tasks.correct.confusions import Confusions, learn_confusions
from stochloc.tasks.correct.correct import EDIT_THRESHOLD, correct, edit_snr, prefers_edits
from stochloc.tasks.correct.decoding import FullWalk, OnePass
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.correct.reading import Decision, Decoder, Reading
from stochloc.tasks.own_text import own_text
from stochloc.tasks.parts import tokens_to_evaluate
from stochloc.tasks.runs import Run, open_run
from stochloc.tasks.walks import Walk

ROWS = 64
NOISE = (0.0, 0.02, 0.05, 0.1, 0.2)
THRESHOLDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
CONTEXT = 30
OCR = "newspaper OCR"
Fix = Callable[[str], str]
Pair = tuple[str, str]


@dataclass(frozen=True)
class HardMask:
    """Masks characters that are unlikely given all others, then fills them in.

    Attributes:
        run: The model.
        threshold: Characters less likely than this are masked, with the gaps around them.
    """

    run: Run
    threshold: float

    def __call__(self, text: str) -> str:
        """Return the text with the unlikely characters replaced; one call per character."""
        tokens = torch.as_tensor(self.run.tokenizer.encode(text))
        return self.refill(tokens, self.likelihoods(tokens))

    def likelihoods(self, tokens: Tensor) -> Tensor:
        """Return `P(s_i | all others)` of every token, 1 in gaps, computed in windows."""
        width, parts, step = min(self.run.length, len(tokens)), [], max(1, self.run.length // 2)
        begin = 0
        while begin < len(tokens):
            left = max(0, min(begin - width // 4, len(tokens) - width))
            places = torch.arange(begin, min(begin + step, len(tokens)))
            parts.append(self._in_window(tokens[left : left + width], places - left))
            begin += step
        return torch.cat(parts)

    def refill(self, tokens: Tensor, likelihood: Tensor) -> str:
        """Return the text with the tokens below the threshold masked and filled in again."""
        masked = likelihood < self.threshold
        if self.run.tokenizer.slots is not None:
            beside = masked[1:-1:2]
            masked[:-2:2] |= beside
            masked[2::2] |= beside
        out, width = tokens.clone(), min(self.run.length, len(tokens))
        denoiser = Tempered(self.run.denoiser_for(width), 1e-3)
        for begin in range(0, len(tokens), width):
            left = min(begin, len(tokens) - width)
            piece = slice(left, left + width)
            known = out[piece].masked_fill(masked[piece], UNKNOWN)[None]
            masked[piece] = False
            if bool((known == UNKNOWN).any()):
                state = start(denoiser.codebook, 1, width, known)
                filled = sample(denoiser, state, Reveal(), Ancestral(), 16, torch.Generator())
                out[piece] = filled.tokens[0]
        return self.run.tokenizer.decode(out)

    @torch.no_grad()
    def _in_window(self, window: Tensor, places: Tensor) -> Tensor:
        denoiser, tokenizer = self.run.denoiser_for(len(window)), self.run.tokenizer
        is_text = torch.ones_like(places, dtype=torch.bool)
        if tokenizer.slots is not None:
            is_text = window[places] != tokenizer.slots.empty
        likelihoods = torch.ones(len(places))
        for rows in is_text.nonzero().flatten().split(ROWS):
            known = window.repeat(len(rows), 1)
            known[torch.arange(len(rows)), places[rows]] = UNKNOWN
            posterior = denoiser(start(denoiser.codebook, *known.shape, known=known))
            log_probs = posterior.log_prob(window.expand_as(known))
            likelihoods[rows] = log_probs[torch.arange(len(rows)), places[rows]].exp().float()
        return likelihoods


@dataclass(frozen=True)
class CertainNeighbours:
    """Takes all other tokens for right, and weighs each by its own evidence.

    Attributes:
        threshold: A change is made if its probability exceeds this.
    """

    threshold: float
    keeps_places = True

    def decide(self, denoiser: Denoiser, reading: Reading) -> Decision:
        """Return the most probable tokens where they exceed the threshold; one call."""
        state, tokens = reading.state, reading.tokens
        others = leave_one_out(denoiser, state.reveal(tokens, torch.ones_like(tokens).bool()))
        given_others = others.log_probs_of(0, denoiser.codebook.vocabulary_size)
        log_probs = given_others + denoiser.codebook.evidence(state.z)
        best = log_probs.softmax(-1).max(-1)
        chosen = torch.where(best.values > self.threshold, best.indices, tokens)
        return Decision.in_place(chosen, best.values, others.calls)


def tuned_hard_mask(run: Run, num_texts: int) -> HardMask:
    """Return the hard mask that corrects most at 5 % errors, changing at most 0.1 % without."""
    texts = lines(run, own_text(run).valid, num_texts)
    corrupted = [corrupt(text, 0.05, 0.0, seed) for seed, text in enumerate(texts)]
    scores = {}
    encode, any_mask = run.tokenizer.encode, HardMask(run, 0.0)
    likelihoods = [
        [
            (torch.as_tensor(encode(text)), any_mask.likelihoods(torch.as_tensor(encode(text))))
            for text in side
        ]
        for side in (texts, corrupted)
    ]
    for threshold in THRESHOLDS:
        mask = HardMask(run, threshold)
        clean, corrected = (
            sum(
                Levenshtein.distance(text, mask.refill(*given))
                for text, given in zip(texts, side, strict=True)
            )
            for side in likelihoods
        )
        scores[threshold] = max(clean / sum(map(len, texts)), 0.001), corrected
    return HardMask(run, min(THRESHOLDS, key=lambda threshold: scores[threshold]))


def lines(run: Run, tokens: np.ndarray, num: int) -> list[str]:
    """Return texts as long as the model's window, spread over a longer one."""
    return [run.tokenizer.decode(row) for row in held_out_windows(tokens, run.length, num)]


def corrupt(text: str, rate: float, edits: float, seed: int) -> str:
    """Replace characters with probability `rate`; delete and insert with probability `edits`."""
    generator, letters = np.random.default_rng(seed), "abcdefghijklmnopqrstuvwxyz "
    pieces = []
    for c in text:
        replaced, deleted, inserted = generator.random(3) < (rate, edits, edits)
        others = [other for other in letters if other != c]
        kept = "" if deleted else generator.choice(others) if replaced else c
        pieces.append(kept + (generator.choice(list(letters)) if inserted else ""))
    return "".join(pieces)


def misspelt(folder: Path, text: str, num: int, allowed: Callable[[str], str]) -> list[Pair]:
    """Return held-out snippets around a word of the lists, with the word misspelt and correct."""
    pairs = []
    for file in sorted(folder.glob("*.txt")):
        for line in file.read_text().splitlines():
            right, colon, wrongs = line.partition(": ")
            clean = allowed(right)
            place = text.find(f" {clean} ", CONTEXT) if colon and clean == right else -1
            for wrong in wrongs.split()[:1] if place >= 0 else []:
                word = allowed(wrong)
                if len(word) > 1 and " " not in word and word != clean:
                    before = text[place - CONTEXT : place + 1]
                    after = text[place + 1 + len(clean) : place + 1 + len(clean) + CONTEXT]
                    pairs.append((before + word + after, before + clean + after))
    order = np.random.default_rng(0).permutation(len(pairs))[:num]
    return [pairs[i] for i in order]


def newspaper(
    file: Path, allowed: Callable[[str], str], characters: int, articles: int | None
) -> list[Pair]:
    """Return OCR output and ground truth of articles, truncated to a number of characters."""
    pairs = []
    for line in file.read_text(encoding="utf-8").splitlines()[:articles]:
        article = json.loads(line)
        sides = (
            article[side]["transcription_unit"].replace("¬\n", "").replace("-\n", "")
            for side in ("ocr_hypothesis", "ground_truth")
        )
        read, truth = (allowed(side).strip() for side in sides)
        if len(read) > characters:
            # Both sides end at the same place of their best alignment.
            for block in reversed(Levenshtein.opcodes(read, truth).as_matching_blocks()):
                if block.a <= characters and block.size:
                    size = min(block.size, characters - block.a)
                    read, truth = read[: block.a + size], truth[: block.b + size]
                    break
        pairs.append((read, truth))
    return pairs


def report(name: str, fix: Fix, pairs: list[Pair]) -> None:
    """Print the error rates of one method, the share of correct words it kept, and its time."""
    began_s = time.monotonic()
    after = [fix(read) for read, _ in pairs]
    seconds = time.monotonic() - began_s
    characters = [len(truth) for _, truth in pairs]
    words = [len(truth.split()) for _, truth in pairs]
    wrong = [Levenshtein.distance(new, truth) for new, (_, truth) in zip(after, pairs, strict=True)]
    wrong_words = [
        Levenshtein.distance(new.split(), truth.split())
        for new, (_, truth) in zip(after, pairs, strict=True)
    ]
    kept, right = np.zeros(len(pairs)), np.zeros(len(pairs))
    for i, (new, (read, truth)) in enumerate(zip(after, pairs, strict=True)):
        kept[i], right[i] = kept_words(new.split(), read.split(), truth.split())
    exact = (
        100 * sum(new == truth for new, (_, truth) in zip(after, pairs, strict=True)) / len(pairs)
    )
    cells = [ratio(wrong, characters), ratio(wrong_words, words), ratio(kept, right)]
    print(f"| {name} | {' | '.join(cells)} | {exact:.1f} | {seconds:.0f} |", flush=True)


def kept_words(new: list[str], read: list[str], truth: list[str]) -> tuple[int, int]:
    """Return how many of the correctly read words were kept, and how many there were."""
    right = [
        place
        for block in Levenshtein.opcodes(read, truth).as_matching_blocks()
        for place in range(block.a, block.a + block.size)
    ]
    unchanged = {
        place
        for block in Levenshtein.opcodes(read, new).as_matching_blocks()
        for place in range(block.a, block.a + block.size)
    }
    return len(unchanged.intersection(right)), len(right)


def ratio(parts: list[int] | np.ndarray, wholes: list[int] | np.ndarray) -> str:
    """Return a ratio of sums in per cent with its standard error over texts."""
    part, whole = np.asarray(parts, float), np.asarray(wholes, float)
    rate = part.sum() / whole.sum()
    spread = (part - rate * whole).std(ddof=1) * math.sqrt(len(part)) / whole.sum()
    return f"{100 * rate:.2f} ± {100 * spread:.2f}"


def fix_by(
    run: Run, decoder: Decoder, snr: float | None = None, confusions: Confusions | None = None
) -> Fix:
    """Return what corrects a text in one way."""
    return lambda text: correct(run, text, decoder, snr, confusions=confusions).text


def methods(run: Run, defaults: Defaults, hard: Fix, price: float | None) -> dict[str, Fix]:
    """Return every method of correction by name: edits, at a price, of two-sided models."""
    snr, threshold = defaults.snr, defaults.threshold
    diffusion = FullWalk(threshold, Walk(Diffusion(), Ancestral(), 32))
    edits = {"likely edits": fix_by(run, LikelyEdits(EDIT_THRESHOLD), price)}
    return {
        "nothing": lambda text: text,
        "hard masks": hard,
        "one pass": fix_by(run, OnePass(threshold), snr),
        "full walk, surest first": fix_by(run, FullWalk(threshold), snr),
        "full walk, diffusion": fix_by(run, diffusion, snr),
        **(edits if prefers_edits(run) else {}),
    }


def learned(run: Run, confusions: Confusions) -> dict[str, Fix]:
    """Return the methods that know errors from examples, by name."""
    ways = (
        ("certain neighbours", CertainNeighbours(EDIT_THRESHOLD)),
        ("one pass", OnePass(EDIT_THRESHOLD)),
        ("likely edits", LikelyEdits(EDIT_THRESHOLD)),
    )
    return {f"{name}, errors learned": fix_by(run, way, None, confusions) for name, way in ways}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--spelling", type=Path)
    parser.add_argument("--ocr", type=Path)
    parser.add_argument("--examples", type=Path, help="of the newspaper's errors")
    parser.add_argument("--noise", type=float, nargs="*", default=NOISE)
    parser.add_argument("--edits", type=float, default=0.0, help="share deleted, and inserted")
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--characters", type=int, default=1000, help="at most, of each article")
    parser.add_argument("--articles", type=int, help="of the newspaper; all when absent")
    parser.add_argument("--only", nargs="+", help="methods to measure, by name; all when absent")
    parser.add_argument("--snr", type=float, help="price of an edit, as `correct --snr`")
    parser.add_argument("--tuning", type=int, default=16, help="texts for the hard mask")
    parser.add_argument(
        "--smoke", action="store_true", help="measure a small model trained on the spot"
    )
    options = parser.parse_args()
    if options.smoke:
        options.noise, options.texts, options.tuning = (0.1,), 2, 2
        with small_run() as folder:
            measure(open_run(folder), options)
    elif options.run is None:
        parser.error("give the folder of a run, or --smoke")
    else:
        measure(open_run(options.run), options)


def measure(run: Run, options: argparse.Namespace) -> None:
    """Print the tables for a model."""
    allowed = lambda text: run.tokenizer.decode(run.tokenizer.encode(text))  # noqa: E731
    defaults, hard = correction_defaults(run), HardMask(run, 0.0)
    if options.only is None or "hard masks" in options.only:
        hard = tuned_hard_mask(run, options.tuning)
        print(f"hard masks below {hard.threshold:g}")
    price = edit_snr(run) if options.snr is None else options.snr
    print(f"{defaults}; edits: SNR {price:.2f}, threshold {EDIT_THRESHOLD:g}")
    test = tokens_to_evaluate(run, None, "test")[0]
    texts = lines(run, test, options.texts)
    tasks = {
        f"{100 * rate:g} % replaced, {100 * options.edits:g} % deleted and inserted": [
            (allowed(corrupt(text, rate, options.edits, seed)), text)
            for seed, text in enumerate(texts)
        ]
        for rate in options.noise
    }
    if options.spelling:
        whole = run.tokenizer.decode(np.asarray(test))
        pairs = misspelt(options.spelling, whole, 3 * options.texts, allowed)
        same = [pair for pair in pairs if len(pair[0]) == len(pair[1])]
        tasks |= {"misspelt words": pairs, "misspelt words of the right length": same}
    if options.ocr:
        tasks[OCR] = newspaper(options.ocr, allowed, options.characters, options.articles)
    more = dict[str, Fix]()
    if options.examples:
        articles = newspaper(options.examples, allowed, sys.maxsize, None)
        encode = run.tokenizer.encode
        examples = ((encode(read).tolist(), encode(truth).tolist()) for read, truth in articles)
        more = learned(run, learn_confusions(examples, run.tokenizer.vocabulary_size))
    for task, pairs in tasks.items():
        print(f"\n{task}, {len(pairs)} texts, {sum(len(t) for _, t in pairs)} characters\n")
        print("| method | characters wrong, % | words wrong, % | right words kept, % "
              "| texts exact, % | seconds |\n|---|---|---|---|---|---|")  # fmt: skip
        of_examples = more if task == OCR else {}
        for name, fix in {**methods(run, defaults, hard, options.snr), **of_examples}.items():
            if options.only is None or name in options.only:
                report(name, fix, pairs)


if __name__ == "__main__":
    main()
