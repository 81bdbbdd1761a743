"""Models of sequences: trained, resumed, and their probabilities add up to one."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tasks.conftest import TRAIN

from stochloc.cli import main
from stochloc.core import Framed, Masked, line_integral
from stochloc.data.lengths import Lengths
from stochloc.data.sequences import Sequences
from stochloc.nn import TWO_SIDED, LocalizationModel, ModelConfig
from stochloc.tasks.evaluate import Evaluation, evaluate_sequences
from stochloc.tasks.lengths_file import LENGTHS
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import WalkSettings
from stochloc.training.checkpoint import FILE_NAME
from stochloc.training.held_out import held_out_record
from stochloc.training.objective import cross_entropy
from stochloc.training.seeds import seeded_streams
from stochloc.training.snr import Endpoints, LeftToRight, TokenLogNormal
from stochloc.training.texts import SequenceTexts
from stochloc.training.trainer import Trainer

WORDS = ["ab" * (n % 3 + 1) + "ba"[n % 2] * (n // 7) for n in range(60)]
SMALL = (*TRAIN[:2], *TRAIN[4:])  # without --length
FRACTIONS = ("--fractions", "0.6", "0.2", "0.2")


@pytest.fixture(scope="module")
def words(tmp_path_factory, cache):
    """A folder with a file of words and a run on them; tests may read it, never write."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(cache))
        data = ("--data", str(folder / "words.txt"), "--sequences", *FRACTIONS)
        main(["train", *data, "--out", str(folder / "run"), *SMALL])
    return folder


def every_sequence(longest, boundary):
    """All sequences of up to so many tokens of text, of which there are `boundary`."""
    texts = [t for n in range(1, longest + 1) for t in itertools.product(range(boundary), repeat=n)]
    lengths = np.array([len(text) for text in texts])
    hashes = np.zeros(len(texts), dtype=np.uint64)
    flat = np.array([token for text in texts for token in text])
    return Sequences(flat, np.cumsum(lengths) - lengths, lengths, hashes, boundary)


@pytest.mark.parametrize("is_trained", [True, False], ids=["trained", "untrained"])
def test_the_probabilities_of_all_sequences_add_up_to_one(words, is_trained):
    run = open_run(words / "run")
    torch.manual_seed(0)
    model = run.model if is_trained else LocalizationModel(run.model.config).eval()
    run = replace(run, model=model.double(), lengths=Lengths((0.5, 0.2, 0.3)))
    evaluation = Evaluation(WalkSettings("autoregressive", num_steps=3), num_sequences=0)
    evaluated = evaluate_sequences(run, every_sequence(3, 2), evaluation)
    told = evaluated.to_dict()
    assert (told["is_exact"], told["sequences"]) == (True, 14)
    given, whole = evaluated.estimate.values, evaluated.estimate.values + evaluated.length_nats
    assert float((-whole).exp().sum()) == pytest.approx(1, abs=1e-9)
    assert float((-given).exp().sum()) == pytest.approx(3, abs=1e-9)
    assert told["nats_per_sequence_with_length"] == pytest.approx(float(whole.mean()))
    assert told["nats_per_sequence"] == pytest.approx(float(given.mean()))


def test_a_sequence_costs_the_same_alone_and_among_others(words):
    run = open_run(words / "run")
    every = every_sequence(4, 2)
    evaluation = Evaluation(WalkSettings("masked", num_steps=4), num_sequences=0, num_orders=1)
    together = evaluate_sequences(run, every, evaluation)
    row = np.array([17])
    alone = evaluate_sequences(run, every.taken(row), evaluation)
    nats = lambda evaluated: evaluated.deviation.along[0].values  # noqa: E731
    torch.testing.assert_close(nats(together)[row], nats(alone))
    assert together.tokens[row] == alone.tokens == 4
    assert bool((together.estimate.token_nats[:2, 2:] == 0).all())


def test_eval_reports_sequences_with_and_without_their_lengths(words, call, call_json):
    told = call_json("eval", words / "run", "--sequences", 0, "--steps", 4)
    run = open_run(words / "run")
    assert 0 < told["sequences"] < 40 and told["tokens"] == told["characters"]
    assert told["length"] <= run.length
    assert told["nats_per_sequence_with_length"] > told["nats_per_sequence"] > 0
    assert told["bits_per_token"] * math.log(2) * told["tokens"] == pytest.approx(
        told["nats_per_sequence"] * told["sequences"]
    )
    said = call("eval", words / "run", "--steps", 4).out
    assert "nats per sequence with length" in said and "sequences of at most" in said
    whole = call_json("eval", words / "run", "--sequences", 0, "--steps", 4, "--split", "all")
    assert whole["sequences"] == len(WORDS)


def test_a_run_of_sequences_holds_their_lengths_and_never_samples_a_boundary(words):
    run = open_run(words / "run")
    longest = max(map(len, WORDS))
    assert run.length == math.ceil((longest + 2) / 8) * 8
    assert run.lengths is not None and run.lengths.longest == run.length - 2
    boundary = (run.tokenizer.boundary,)
    assert run.denoiser_for(3) == Framed(run.model, boundary, boundary)
    assert run.model.config.given_tokens == 1 and run.data.sequences
    lines = (words / "run" / "metrics.jsonl").read_text().splitlines()
    samples = [json.loads(line)["sample"] for line in lines if "sample" in line]
    assert samples and all(set(sample) <= set("ab") and sample for sample in samples)


def test_a_run_cut_off_and_resumed_from_a_moved_file_is_the_one_never_cut(
    words, tmp_path, call, monkeypatch
):
    update, cut, moved = Trainer.update, tmp_path / "cut", tmp_path / "moved.txt"

    def cut_off(trainer):
        if trainer.step == 3:
            raise RuntimeError("cut off")
        return update(trainer)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="cut off"):
        patch.setattr(Trainer, "update", cut_off)
        data = ("--data", words / "words.txt", "--sequences", *FRACTIONS)
        call("train", *data, "--out", cut, *SMALL)
    moved.write_bytes((words / "words.txt").read_bytes())
    call("train", "--out", cut, "--resume", "--sequences", "--data", moved)
    for name in (FILE_NAME, "model.safetensors"):
        own, other = load_file(words / "run" / name), load_file(cut / name)
        assert own.keys() == other.keys()
        assert [key for key in own if not torch.equal(own[key], other[key])] == []
    assert (words / "run" / LENGTHS).read_bytes() == (cut / LENGTHS).read_bytes()


def test_what_is_cut_or_seen_twice_is_said_and_the_dry_run_counts_it(words, tmp_path, call):
    data = ("--data", words / "words.txt", "--sequences", "--valid", words / "words.txt")
    dry = ("train", *data, "--out", tmp_path / "none", *FRACTIONS, "--length", 8, "--dry-run")
    printed = call(*dry)
    told = json.loads(printed.out)
    trained_on = f"sequences of at most 6 tokens from {told['sequences']['train']} training"
    assert trained_on in printed.err
    longer = [word for word in WORDS if len(word) > 6]
    counted = told["sequences"]
    assert counted["valid"] == len(WORDS) and counted["longest"] == max(map(len, WORDS))
    assert counted["cut"] >= len(longer) and told["training"]["length"] == 8
    assert not (tmp_path / "none").exists()
    said = call("train", *data, "--out", tmp_path / "run", *SMALL, "--length", 8).err
    assert "longer than 6 tokens and are cut there" in said
    assert "validation sequences are also in the training part" in said


def test_bad_sequences_end_in_one_sentence_and_write_nothing(words, tmp_path, refuse):
    def train(text, *flags):
        (tmp_path / "bad.txt").write_text(text, encoding="utf-8")
        out = tmp_path / "out"
        said = refuse("train", "--data", tmp_path / "bad.txt", "--sequences", "--out", out, *flags)
        assert not out.exists()
        return said

    assert "line 2 of" in train("ab\n\ncd\n") and "is empty" in train("ab\n\ncd\n")
    assert "slots" in train("ab\ncd\n", "--slots")
    assert "--length of at least 3" in train("\n".join(WORDS), "--length", 2)
    assert "too few" in train("ab\n", "--fractions", 1e-9, 0.5, 0.5)
    assert "no validation sequences" in train("ab\ncd\n", "--fractions", 1, 0, 0)
    out = tmp_path / "out"
    assert "endless" in refuse("train", "--data", "builtin", "--sequences", "--out", out)
    resumed = ("train", "--out", words / "run", "--resume", "--length", 9)
    assert "length would differ" in refuse(*resumed)
    assert "--sequences must be at least 1" in refuse("tune", words / "run", "--sequences", 0)


def test_a_run_on_training_words_leaves_the_same_sequences_out_whenever_it_is_opened(
    tmp_path, call, call_json, refuse
):
    lines = [f"{'C Am ' * (n % 5 + 1)}{'G ' * (n // 5)}C" for n in range(40)]
    lines += [f"C X{n}" for n in range(20)]
    (tmp_path / "chords").write_text("\n".join(lines), encoding="utf-8")
    chosen = ("--data", tmp_path / "chords", "--sequences", *FRACTIONS)
    train = ("train", "--out", tmp_path / "run", "--tokenizer", "words:train")
    assert "are left out" in call(*train, *chosen, *SMALL).err
    evaluated = call_json("eval", tmp_path / "run", "--sequences", 0)
    assert evaluated["sequences"] > 0
    call(*train, "--resume", "--steps", 5)
    refused = ("--tokenizer", "words", "--resume", "--steps", 5)
    assert "tokenizer would differ" in refuse("train", "--out", tmp_path / "run", *refused)
    assert call_json("eval", tmp_path / "run", "--sequences", 0)["tokens"] == evaluated["tokens"]
    # Of another file no sequence is left out.
    (tmp_path / "other").write_text("\n".join(f"C H{n}" for n in range(20)), encoding="utf-8")
    assert "line 1 of" in refuse("eval", tmp_path / "run", "--data", tmp_path / "other")


def test_a_run_without_its_lengths_is_damaged(words, tmp_path, refuse):
    copy = tmp_path / "run"
    copy.mkdir()
    for path in (words / "run").iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / LENGTHS).write_text('{"probabilities": [0.5]}')
    assert LENGTHS in refuse("eval", copy)
    (copy / LENGTHS).unlink()
    assert f"{LENGTHS} is missing" in refuse("eval", copy)


def test_the_held_out_bound_is_that_of_the_sequences_each_alone(words):
    run = open_run(words / "run")
    sequences, config = every_sequence(3, 2), run.recipe.training
    record = held_out_record(
        run.model, SequenceTexts(sequences, sequences, lambda model: "s"), config, 7
    )
    total = 0.0
    for number in range(len(sequences)):
        row = sequences.rows(np.array([number]))
        known = row.masked_fill(row != sequences.boundary, -1)
        streams = seeded_streams(torch.device("cpu"), config.seed, [(0, 0, 2, number)])
        total += line_integral(run.model, row, Masked(), 8, streams, known).mean
    per_token = total / math.log(2) / int(sequences.lengths.sum())
    assert record["valid_bits_per_token"] == pytest.approx(per_token, rel=1e-5)


def test_the_sample_beside_a_held_out_bound_records_no_gradients(words):
    """Of a large vocabulary, the graphs of all steps would be kept until the text is complete."""
    run, seen = open_run(words / "run"), []

    def say(model):
        seen.append(torch.is_grad_enabled())
        return "s"

    sequences = every_sequence(3, 2)
    held_out_record(run.model, SequenceTexts(sequences, sequences, say), run.recipe.training, 7)
    assert seen == [False]


def test_both_sides_know_the_boundaries_whatever_the_law():
    config = ModelConfig(3, 16, 1, 2, architecture=TWO_SIDED, given_tokens=1, unigram=False)

    class Watched:
        def token_nats(self, tokens, snr, right_snr, generator, is_full=None):
            self.shown = snr, right_snr
            return LocalizationModel(config).token_nats(tokens, snr, right_snr, generator)

    sequences, model = every_sequence(3, 2), Watched()
    rows = sequences.rows(np.arange(len(sequences)))
    law = LeftToRight(Endpoints(TokenLogNormal()), 0.3, 0.3)
    loss = cross_entropy(model, rows, law, torch.Generator().manual_seed(0), 0, 2)
    is_boundary = rows == 2
    for side in model.shown:
        assert bool(side[is_boundary].isinf().all())
        assert bool((side[(rows >= 0) & ~is_boundary] == 0).any())
    # An untrained model predicts uniformly among the tokens of text: the boundary has no share.
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=1e-5)


def test_split_all_of_another_file_counts_its_records(words, tmp_path, call_json):
    other = Path(tmp_path / "other.txt")
    other.write_text("ab\nba\na\n", encoding="utf-8")
    told = call_json("eval", words / "run", "--data", other, "--steps", 2)
    assert told["sequences"] == 3 and told["tokens"] == 5
