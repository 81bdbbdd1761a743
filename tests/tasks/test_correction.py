"""Correction: soft masks are Bayes' rule for corrupting channels; thresholds keep correct text."""

import gzip
import itertools
import json
import math
import os
import shutil

import pytest
import torch
from tasks.conftest import TRAIN

from stochloc.core import Ancestral, Diffusion, ExactDenoiser, SimplexCodebook
from stochloc.data import CharacterTokenizer, SlottedTokenizer
from stochloc.tasks.correct.calibration import correction_defaults
from stochloc.tasks.correct.channels import Edits, Substitutions, rate_at, snr_at, soft_mask
from stochloc.tasks.correct.correct import correct, parse_confidences
from stochloc.tasks.correct.decoding import FullWalk, OnePass
from stochloc.tasks.correct.errors import EqualKinds
from stochloc.tasks.correct.reading import Reading
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import Walk

pytestmark = pytest.mark.bulk

SIZE, LENGTH = 3, 4
SLOTS = SlottedTokenizer(CharacterTokenizer("abc"), rate=0.1)
LOST, ADDED = 0.3, 0.5
EDITS = Edits(SLOTS.slots, LOST, ADDED)


def letters():
    sequences = torch.cartesian_prod(*[torch.arange(SIZE)] * LENGTH)
    weights = torch.randn(len(sequences), generator=torch.Generator().manual_seed(1)).double()
    return ExactDenoiser(SimplexCodebook(SIZE).double(), sequences, 2 * weights)


def layouts(length, nats):
    """All layouts with so many places, each text of the language with its nats, at the rate 0.1."""
    is_gap = torch.arange(2 * length + 1) % 2 == 0
    rows, log_prior = [], []
    for text, cost in nats.items():
        ids = torch.from_numpy(SLOTS.inner.encode(text))
        for filled in itertools.combinations(range(2 * length + 1), len(text)):
            row = torch.full((2 * length + 1,), SLOTS.empty)
            row[list(filled)] = ids
            changed = int(((row != SLOTS.empty) == is_gap).sum())
            rows.append(row)
            log_prior.append(-cost + changed * math.log(1 / 9))
    codebook = SimplexCodebook(4).double()
    return ExactDenoiser(codebook, torch.stack(rows), torch.tensor(log_prior).double())


def marginals(sequences, log_weights, size):
    hits = sequences[..., None] == torch.arange(size)
    return (log_weights.softmax(0)[:, None, None] * hits).sum(0)


def mask(denoiser, channel, read, rate):
    snr = torch.full(read.shape, snr_at(rate, 3), dtype=torch.float64)
    return soft_mask(denoiser.codebook, channel, read, snr)


def reading(state, tokens):
    return Reading(state, tokens, torch.ones_like(tokens, dtype=torch.bool), EqualKinds(SIZE))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 2 / 3])
def test_a_soft_mask_is_the_posterior_of_the_substitution_channel(rate):
    denoiser, read = letters(), torch.tensor([[0, 2, 1, 1]])
    right = denoiser.sequences == read
    likelihood = torch.where(right, 1 - rate, rate / (SIZE - 1)).double().log().sum(-1)
    bayes = marginals(denoiser.sequences, denoiser.log_prior + likelihood, SIZE)
    posterior = denoiser(mask(denoiser, Substitutions(SIZE), read, rate))
    assert torch.allclose(posterior.probs[0], bayes, atol=1e-12)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.4])
def test_a_soft_mask_in_slots_is_the_posterior_of_a_channel_that_also_loses_and_adds(rate):
    texts = ["".join(t) for n in range(5) for t in itertools.product("abc", repeat=n)]
    nats = {text: (7 * i % 11) / 3 for i, text in enumerate(texts)}
    denoiser, read = layouts(2, nats), torch.from_numpy(SLOTS.encode("ca"))[None]
    log_joint = []
    for row in denoiser.sequences.tolist():
        log_prob = -nats[SLOTS.decode(row)]
        for place, token in enumerate(row):
            is_empty = token == SLOTS.empty
            if place % 2 == 0:
                factor = 1 - LOST * rate if is_empty else LOST * rate
            elif is_empty:
                factor = ADDED * rate / 3
            else:
                match = token == int(read[0, place])
                factor = (1 - ADDED * rate) * (1 - rate if match else rate / 2)
            log_prob += math.log(factor)
        log_joint.append(log_prob)
    bayes = marginals(denoiser.sequences, torch.tensor(log_joint).double(), 4)
    posterior = denoiser(mask(denoiser, EDITS, read, rate))
    assert torch.allclose(posterior.probs[0], bayes, atol=1e-12)


def test_error_rates_and_signal_to_noise_ratios_name_each_other():
    for rate in (1e-6, 0.05, 0.5, 26 / 27):
        assert float(rate_at(torch.tensor(snr_at(rate, 27)).double(), 27)) == pytest.approx(rate)
    assert snr_at(0.0, 27) == math.inf
    assert snr_at(1.0, 27) == snr_at(0.99, 27) == 0
    assert float(rate_at(torch.tensor(math.inf), 27)) == 0


def test_without_evidence_a_soft_mask_leaves_the_prior_and_certain_tokens_are_known():
    denoiser, read = letters(), torch.tensor([[0, 2, 1, 1]])
    prior = marginals(denoiser.sequences, denoiser.log_prior, SIZE)
    blind = denoiser(mask(denoiser, Substitutions(SIZE), read, 2 / 3))
    assert torch.allclose(blind.probs[0], prior, atol=1e-12)
    snr = torch.tensor([[torch.inf, 0.0, 0.0, torch.inf]]).double()
    state = soft_mask(denoiser.codebook, Substitutions(SIZE), read, snr)
    assert state.known.tolist() == [[0, -1, -1, 1]]


@pytest.mark.parametrize(("rate", "lost", "added"), [(0.1, 0.3, 0.5), (0.3, 1.0, 0.2)])
def test_corrupted_text_shows_the_errors_of_the_channel_at_its_rates(rate, lost, added):
    text = torch.from_numpy(SLOTS.encode("abc" * 300)).expand(60, -1)
    channel = Edits(SLOTS.slots, lost, added)
    meant, read = channel.corrupt(text, rate, torch.Generator().manual_seed(0))
    # Beyond its middle a text may run out of characters.
    meant, read = meant[:, :901], read[:, :901]
    is_gap = torch.arange(901) % 2 == 0
    filled = meant != SLOTS.empty
    assert ((read == SLOTS.empty) == is_gap).all()
    replaced = (read != meant)[filled & ~is_gap].double().mean()
    # 27,000 draws each: 5.5 deviations of sqrt(p (1 - p) / 27000), and fewer places are filled.
    for share, p in (
        (filled[:, is_gap].double().mean(), rate * lost),
        (1 - filled[:, ~is_gap].double().mean(), rate * added),
        (replaced, rate),
    ):
        assert abs(float(share) - p) < 6.5 * math.sqrt(p * (1 - p) / 27_000)


NATS = {"abcab": 0.0, "ccbaa": 0.0, "bbbcc": 0.0}
DECODERS = [OnePass(0.5), FullWalk(0.5), FullWalk(0.5, Walk(Diffusion(), Ancestral(), 40))]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("read", "meant"), [("abab", "abcab"), ("ccba", "ccbaa"), ("bbcc", "bbbcc")]
)
def test_a_lost_character_is_put_back_and_one_of_two_equal_ones_by_a_walk(decoder, read, meant):
    denoiser = layouts(4, NATS)
    tokens = torch.from_numpy(SLOTS.encode(read))[None]
    decision = decoder.decide(denoiser, reading(mask(denoiser, EDITS, tokens, 0.05), tokens))
    # The second a of `aa` may have been lost on either side of the first: one pass, which decides
    # gap by gap, holds neither for probable enough.
    is_told = read == "abab" or not isinstance(decoder, OnePass)
    assert SLOTS.decode(decision.tokens[0]) == (meant if is_told else read)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("read", "meant"), [("abcc", "abc"), ("cbac", "cba"), ("aabc", "abc")])
def test_an_added_character_is_taken_out_though_one_of_two_equal_ones_cannot_be_told(
    decoder, read, meant
):
    denoiser = layouts(4, {"abc": 0.0, "cba": 0.0, "bbbb": 0.0})
    tokens = torch.from_numpy(SLOTS.encode(read))[None]
    decision = decoder.decide(denoiser, reading(mask(denoiser, EDITS, tokens, 0.05), tokens))
    doubled = read in ("abcc", "aabc")
    if doubled and isinstance(decoder, OnePass):
        # Each is added with probability ½: one pass, token by token, leaves both.
        assert SLOTS.decode(decision.tokens[0]) == read
    else:
        assert SLOTS.decode(decision.tokens[0]) == meant


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_change_is_made_at_a_threshold_of_one_and_none_is_less_probable_than_any(decoder):
    denoiser = letters()
    read = torch.randint(SIZE, (64, LENGTH), generator=torch.Generator().manual_seed(3))
    state = mask(denoiser, Substitutions(SIZE), read, 0.4)
    for threshold in (0.6, 0.9, 1.0):
        stricter = type(decoder)(**{**decoder.__dict__, "threshold": threshold})
        decision = stricter.decide(denoiser, reading(state, read))
        changed = decision.tokens != read
        assert bool(changed.any()) or threshold > 0.6
        assert (decision.probs[changed] > threshold).all()
        assert not (threshold == 1.0 and changed.any())


def test_the_full_walk_leaves_no_more_errors_than_nothing_on_texts_corrupted_at_the_rate():
    denoiser = letters()
    generator = torch.Generator().manual_seed(5)
    clean = denoiser.sample(4000, generator)
    meant, read = Substitutions(SIZE).corrupt(clean, 0.2, generator)
    state = mask(denoiser, Substitutions(SIZE), read, 0.2)
    given = reading(state, read)
    errors = {
        decoder: float((decoder.decide(denoiser, given).tokens != meant).double().mean())
        for decoder in (OnePass(0.5), FullWalk(0.5))
    }
    before = float((read != meant).double().mean())
    # The posterior mode is the best there is for each character: 16,000 of them, 6 deviations.
    margin = 6 * math.sqrt(before / 16_000)
    assert errors[OnePass(0.5)] < before - margin
    assert errors[FullWalk(0.5)] < before
    assert errors[OnePass(0.5)] < errors[FullWalk(0.5)] + margin


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


TEXT = "the quick brown fox jumps over the lazy dog and runs"


def test_infinite_signal_changes_nothing_and_none_forgets_the_text(run, slotted):
    for model in (run, open_run(slotted)):
        for decoder in (OnePass(0.0), FullWalk(0.0)):
            same = correct(model, TEXT, decoder, math.inf)
            assert (same.text, same.changes, same.error_rate) == (TEXT, (), 0)
    one, other = (correct(run, text, OnePass(0.0), 0.0).text for text in (TEXT, TEXT[::-1]))
    assert one == other != TEXT


@pytest.mark.parametrize("decoder", [OnePass(0.0), FullWalk(0.0)])
def test_characters_of_confidence_one_never_change(run, slotted, decoder):
    confidences = [1.0 if i % 3 else 0.0 for i in range(len(TEXT))]
    plain = correct(run, TEXT, decoder, 3.0, confidences)
    assert plain.changes
    assert all(change.position % 3 == 0 for change in plain.changes)
    with_gaps = correct(open_run(slotted), TEXT, decoder, 3.0, confidences).changes
    assert with_gaps
    for change in with_gaps:
        # A gap beside a certain character may be filled, if its other side is doubtful.
        assert change.position % 3 != 2 if not change.read else change.position % 3 == 0


def test_a_confidence_is_the_signal_of_its_error_rate(run):
    size = run.tokenizer.vocabulary_size
    by_snr = correct(run, TEXT, OnePass(0.0), snr_at(0.3, size))
    by_confidence = correct(run, TEXT, OnePass(0.0), 0.0, [0.7] * len(TEXT))
    assert by_snr.changes == by_confidence.changes


def test_changes_say_what_became_of_the_text_and_long_texts_are_done_in_windows(run, slotted):
    for model, factor in ((run, 1), (open_run(slotted), 2)):
        result = correct(model, TEXT, OnePass(0.1), 1.0)
        assert result.changes
        assert len(TEXT) * factor > model.length
        pieces = {(c.position, not c.read): c.text for c in result.changes}
        rebuilt = ""
        for place, character in enumerate(TEXT):
            rebuilt += pieces.get((place, True), "") + pieces.get((place, False), character)
        assert result.text == rebuilt + pieces.get((len(TEXT), True), "")
        assert all(c.probability > 0.1 for c in result.changes)


def test_slotted_training_is_the_same_when_cut_off_and_resumed(trained, slotted, tmp_path):
    from stochloc.cli import main
    from stochloc.training.trainer import Trainer

    update = Trainer.update

    def cut_off(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return update(trainer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Trainer, "update", cut_off)
        data = str(trained / "text.txt")
        main(["train", "--data", data, "--out", str(tmp_path / "cut"), "--slots", *TRAIN])
    main(["train", "--out", str(tmp_path / "cut"), "--resume", "--slots"])
    one, other = (folder / "model.safetensors" for folder in (slotted, tmp_path / "cut"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_without_slots_cannot_be_resumed_with_them(trained, refuse):
    assert "slots would differ" in refuse("train", "--out", trained / "run", "--resume", "--slots")


def test_defaults_are_measured_once_and_kept_beside_the_model(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "run", tmp_path / "run")
    run = open_run(tmp_path / "run")
    first = correction_defaults(run)
    assert first.clean_changes is not None
    assert first.errors_left is not None
    kept = json.loads((tmp_path / "run" / "correction.json").read_text())
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert kept == {**first.__dict__, "text": recipe["fingerprint"]["valid"]}
    monkeypatch.setattr("stochloc.tasks.correct.calibration._measure", None)
    assert correction_defaults(run) == first
    (tmp_path / "run" / "correction.json").write_text("[1]")
    with pytest.raises(ValueError, match="damaged"):
        correction_defaults(run)


def test_defaults_are_measured_again_after_further_training(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "correction.json").write_text("damaged")
    os.utime(tmp_path / "run" / "correction.json", (0, 0))
    assert correction_defaults(open_run(tmp_path / "run")).clean_changes is not None


def test_without_validation_text_the_defaults_are_those_of_errors_at_five_per_cent(
    trained, tmp_path
):
    # Another test may have measured the defaults of this run already.
    shutil.copytree(trained / "run", tmp_path / "run", ignore=lambda *_: ["correction.json"])
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    recipe["data"]["data"] = recipe["where"]["data"] = str(tmp_path / "gone.txt")
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(recipe))
    run = open_run(tmp_path / "run")
    assert correction_defaults(run).snr == snr_at(0.05, run.tokenizer.vocabulary_size)
    assert not (tmp_path / "run" / "correction.json").exists()


def test_the_command_prints_the_text_and_its_changes(trained, slotted, call, call_json):
    arguments = ("correct", trained / "run", TEXT, "--snr", 1, "--threshold", 0.1, "--one-pass")
    result = call_json(*arguments)
    assert result["denoiser_calls"] == 1
    assert result["error_rate"] == pytest.approx(float(rate_at(torch.tensor(1.0), 27)), abs=0.01)
    assert {"position", "from", "to", "probability"} == result["changes"][0].keys()
    printed = call(*arguments)
    assert printed.out.splitlines()[0] == result["text"]
    assert len(printed.out.splitlines()) == 1 + len(result["changes"])
    places = [int(line.split()[0]) for line in printed.out.splitlines()[1:]]
    assert places == [change["position"] + 1 for change in result["changes"]]
    assert "keeps the length" in printed.err
    walked = call("correct", slotted, TEXT, "--snr", 1, "--threshold", 0.1, "--walk")
    assert "keeps the length" not in walked.err


def test_the_text_of_a_file_is_corrected_like_the_same_argument(trained, tmp_path, call_json):
    (tmp_path / "read.txt").write_text(TEXT + "\n")
    common = ("--snr", 1, "--threshold", 0.1)
    by_file = call_json("correct", trained / "run", "--file", tmp_path / "read.txt", *common)
    by_argument = call_json("correct", trained / "run", TEXT, *common)
    assert by_file["changes"] == by_argument["changes"]


@pytest.mark.parametrize("model", ["trained", "slotted"])
@pytest.mark.parametrize("walk", [(), ("--walk",)], ids=["pass", "walk"])
def test_a_character_the_model_never_saw_is_a_blank_that_it_fills(
    trained, slotted, call_json, model, walk
):
    folder = {"trained": trained / "run", "slotted": slotted}[model]
    settings = ("--snr", 1000, "--threshold", 0.999999, *walk)
    result = call_json("correct", folder, "the q#ick fox", *settings)
    assert result["read"] == "the q#ick fox"
    (change,) = result["changes"]
    assert (change["position"], change["from"]) == (5, "#")
    assert result["text"] == f"the q{change['to']}ick fox"
    # What stands in its place can be anything that is unknown: it says nothing.
    other = call_json("correct", folder, "the q5ick fox", *settings)
    assert other["text"] == result["text"]
    assert result["denoiser_calls"] == other["denoiser_calls"] >= 2


def test_positions_are_counted_in_what_was_given(trained, call_json, call):
    text = "the\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
    result = call_json("correct", trained / "run", f"\ufeff{text}", "--snr", 9,
                       "--threshold", 0.5)  # fmt: skip
    assert [c["position"] for c in result["changes"] if c["from"] == "\U0001f600"] == [4]
    assert result["notes"] == ["a byte order mark was left out"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_corrected_text_is_written_whole_or_not_at_all(
    trained, tmp_path, call_json, refuse, suffix
):
    path, out = tmp_path / f"read.txt{suffix}", tmp_path / "out.txt"
    raw = f"{TEXT}\r\n".encode()
    path.write_bytes(gzip.compress(raw) if suffix else raw)
    arguments = ("correct", trained / "run", "--snr", 1, "--threshold", 0.1)
    result = call_json(*arguments, "--file", path, "--out", out)
    assert out.read_text() == result["text"] + "\n"
    refuse(*arguments, "--file", tmp_path / "missing", "--out", out)
    assert out.read_text() == result["text"] + "\n"


def test_bytes_that_are_not_utf8_are_scored_and_corrected_by_a_byte_model(
    tmp_path, call, call_json
):
    text = tmp_path / "latin1.txt"
    text.write_bytes(("caf\xe9 noir, the fox. " * 100).encode("latin-1"))
    run = tmp_path / "run"
    call("train", "--data", text, "--tokenizer", "bytes", "--out", run, *TRAIN)
    (tmp_path / "line").write_bytes(b"caf\xe9 noir\n")
    assert len(call_json("score", run, tmp_path / "line")["lines"]) == 1
    # Certain of every byte, the model gives the file back.
    call("correct", run, "--file", tmp_path / "line", "--out", tmp_path / "out",
         "--snr", "inf", "--threshold", 1)  # fmt: skip
    assert (tmp_path / "out").read_bytes() == b"caf\xe9 noir\n"


def test_confidences_are_read_as_a_list_with_or_without_brackets():
    assert parse_confidences("0.5,1, 0") == parse_confidences(" [0.5, 1.0, 0]") == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(("arguments", "reason"), [
    (("",), "no text"), ((), "Give either"), (("the", "--file", "x.txt"), "Give either"),
    (("--file", "missing.txt"), "There is no file missing.txt"),
    (("the", "--out", "missing/x.txt"), "folder that exists"),
    (("the", "--snr", "-1"), "at least 0"), (("the", "--snr", "nan"), "at least 0"),
    (("the", "--threshold", "1.5"), "0 to 1"), (("the", "--threshold", "nan"), "0 to 1"),
    (("the", "--confidences", "1,1"), "3 characters"),
    (("the", "--confidences", "1,1,2"), "from 0 to 1"),
    (("the", "--confidences", "1,1,NaN"), "from 0 to 1"),
    (("the", "--confidences", "1,x,1"), "not '1,x,1'"),
    (("the", "--walk", "--policy", "best"), "no policy 'best'"),
    (("the", "--walk", "--steps", "0"), "step"), (("the", "--walk", "--one-pass"), "either"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_sentence(trained, refuse, arguments, reason):
    has_own = {"--snr", "--confidences"} & set(arguments)
    settings = [] if has_own else ["--snr", "1"]
    settings += [] if "--threshold" in arguments else ["--threshold", "0.5"]
    assert reason in refuse("correct", trained / "run", *arguments, *settings)
