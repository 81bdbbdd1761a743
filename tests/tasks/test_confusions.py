"""Errors learned from examples: counted, shown as evidence, and weighed as Bayes' rule says."""

import json
import math
from itertools import product

import pytest
import torch
from tasks.exact_chain import Chain

from stochloc.tasks.correct import correct
from stochloc.tasks.correct.channels import soft_mask
from stochloc.tasks.correct.confusions import PRIOR_COUNT, Rates, learn_confusions
from stochloc.tasks.correct.decoding import OnePass
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.correct.examples import confusions_of
from stochloc.tasks.correct.reading import Reading
from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk

SIZE = 4
EVERYWHERE = LikelyEdits(0.0, num_places=9, num_tokens=SIZE, num_pieces=999, num_rounds=1, reach=99)
CHAIN = Chain.drawn(SIZE, 5, 1.0, 4.0)
LETTERS = {letter: token for token, letter in enumerate("abcd")}


def tokens(text):
    return [LETTERS.get(letter, -1) for letter in text]


def learned(*pairs):
    return learn_confusions([(tokens(read), tokens(right)) for read, right in pairs], SIZE)


def named(confusions):
    """What was read as what, in letters."""

    def text(piece):
        return "".join("abcd"[token] for token in piece)

    return {
        (text(read), text(right)): num
        for read, by_right in confusions.read_as.items()
        for right, num in by_right.items()
    }


@pytest.mark.parametrize(("read", "right", "errors", "rates"), [
    ("abcd", "abcd", {}, (0, 0, 0, 0)),
    ("abd", "abc", {("d", "c"): 1}, (1, 0, 0, 0)),
    ("ac", "abc", {("", "b"): 1}, (0, 1, 0, 0)),
    ("abbc", "abc", {("b", ""): 1}, (0, 0, 1, 0)),
    ("acbd", "abcd", {("cb", "bc"): 1}, (0, 0, 0, 1)),
    ("cbad", "abcd", {("c", "a"): 1, ("a", "c"): 1}, (2, 0, 0, 0)),
    ("accd", "abbd", {("c", "b"): 2, ("cc", "bb"): 1}, (2, 0, 0, 0)),
    ("da", "cba", {("d", "c"): 1, ("", "b"): 1, ("d", "cb"): 1}, (1, 1, 0, 0)),
    ("a?d", "abd", {}, (0, 0, 0, 0)),
    ("ad", "abbbbbd", {("", "b"): 5}, (0, 5, 0, 0)),
])  # fmt: skip
def test_texts_are_aligned_by_the_fewest_edits_and_neighbouring_ones_are_also_a_piece(
    read, right, errors, rates
):
    confusions = learned((read, right))
    found = {piece: num for piece, num in named(confusions).items() if piece[0] != piece[1]}
    # Levenshtein's alignment may take either token of a piece for the replaced one.
    if errors.get(("d", "cb")):
        found = {piece: num for piece, num in found.items() if len(piece[1]) == 2}
        errors = {("d", "cb"): 1}
    assert found == errors
    expected = Rates(*((num + 0.5) / (len(right) + 1) for num in rates))
    assert confusions.rates == pytest.approx(expected)


MANY = (
    *(("abcdabcdab", "abcdabcdab"),) * 5,
    ("bbcdabcdab", "abcdabcdab"), ("cbcdbbcdab", "abcdabcdab"), ("abcdacdab", "abcdabcdab"),
    ("acbdabcdab", "abcdabcdab"), ("abdbcdab", "abcdabcdab"), ("abdbcdab", "abcdabcdab"),
    ("abccdabcdab", "abcdabcdab"), ("abdcdabcdab", "abcdabcdab"), ("abdcdabcdab", "abcdabcdab"),
)  # fmt: skip


def test_rates_are_counts_and_a_prior_of_all_tokens_together():
    confusions = learned(*MANY)
    (a, b), rates = (LETTERS["a"], LETTERS["b"]), confusions.rates
    num = sum(right.count("a") for _, right in MANY)
    kept = named(confusions)["a", "a"] + PRIOR_COUNT * (1 - rates.replaced - rates.lost)
    wrong = 2 + PRIOR_COUNT * rates.replaced / (SIZE - 1)
    costs = [math.log((num + PRIOR_COUNT) / n) for n in (wrong, kept)]
    kept_b = named(confusions)["b", "b"] + PRIOR_COUNT * (1 - rates.replaced - rates.lost)
    num_b = sum(right.count("b") for _, right in MANY)
    assert confusions.cost((b,), (a,), 1.0) == pytest.approx(
        costs[0] + math.log(kept_b / (num_b + PRIOR_COUNT))
    )
    snr = torch.tensor([2.0, 0.0], dtype=torch.float64)
    shown = confusions.evidence(torch.tensor([b, b]), snr)
    kept_nats = math.log(kept_b / (num_b + PRIOR_COUNT))
    assert float(shown[0, b] - shown[0, a]) == pytest.approx(kept_nats + costs[0])
    assert not shown[1].any()


def test_where_nothing_is_known_no_edit_costs_anything():
    confusions = learned(*MANY)
    for read, right in (((0,), (1,)), ((), (2,)), ((3,), ()), ((0, 1), (1, 0))):
        assert confusions.cost(read, right, 0.0) == 0
        assert confusions.cost(read, right, 1e-9) > 0


@pytest.mark.parametrize("read", [(0, 1, 2), (3, 3, 1), (1, 0, 0)])
def test_the_soft_mask_of_learned_errors_is_the_posterior_by_bayes_rule(read):
    confusions, length = learned(*MANY), len(read)
    denoiser = CHAIN.enumerated(length)
    seen = torch.tensor([read])
    snr = torch.ones(seen.shape, dtype=torch.float64)
    posterior = denoiser(soft_mask(denoiser.codebook, confusions, seen, snr)).log_probs[0].exp()
    # P(s|v) over P(s|s), for every place.
    odds = torch.tensor(
        [[math.exp(-confusions.cost((s,), (v,), 1.0)) for v in range(SIZE)] for s in read]
    ).double()
    every = denoiser.sequences
    weights = denoiser.log_prior.exp() * odds[torch.arange(length), every].prod(-1)
    expected = torch.zeros(length, SIZE, dtype=torch.float64)
    for text, weight in zip(every.tolist(), weights.tolist(), strict=True):
        expected[range(length), text] += weight
    torch.testing.assert_close(posterior, expected / weights.sum(), atol=1e-7, rtol=0)


def every_edit(read, confusions):
    """Every other text that undoes one error, and the least that it costs."""
    found = {}
    singles = {(), *((v,) for v in range(SIZE))}
    for begin, size in product(range(len(read) + 1), range(4)):
        piece = read[begin : begin + size]
        if len(piece) < size:
            continue
        rights = singles if size < 2 else {piece[::-1]} if size == 2 else set()
        rights = rights | set(confusions.likely(piece) if size else ())
        for right in rights:
            text = (*read[:begin], *right, *read[begin + size :])
            cost = confusions.cost(piece, right, 1.0)
            if text != read and text and cost < math.inf:
                found[text] = min(cost, found.get(text, math.inf))
    return found


def text_of(decided):
    """The text of a single row that was decided."""
    ends = torch.full((1, 1), -1)
    both = torch.stack([decided.inserted, torch.cat([decided.tokens, ends], 1)], -1)
    return tuple(both[both >= 0].tolist())


def test_the_edit_made_is_the_most_probable_of_all_errors_that_were_seen():
    confusions, made = learned(*MANY), set()
    assert confusions.likely(tuple(tokens("bb"))) == {}
    for number in range(24):
        generator = torch.Generator().manual_seed(number)
        read = tuple(torch.randint(SIZE, (4,), generator=generator).tolist())
        seen = torch.tensor([read])
        state = soft_mask(CHAIN.codebook, confusions, seen, torch.ones(seen.shape).double())
        reading = Reading(state, seen, torch.ones_like(seen, dtype=torch.bool), confusions)
        decided = EVERYWHERE.decide(CHAIN, reading)
        edits = every_edit(read, confusions)
        scores = {text: CHAIN.log_prob(text) - cost for text, cost in edits.items()}
        scores[read] = CHAIN.log_prob(read)
        best = max(scores, key=lambda text: scores[text])
        assert text_of(decided) == best
        made.add(len(best) - len(read))
    assert made == {-1, 0, 1}


EXAMPLES = (("the quick brown fox", "the quick brown fox"), ("tho quick", "the quick"),
            ("tho fox jumps ovor", "the fox jumps over"), ("lazy dog", "lazy dog"))  # fmt: skip


def written(path, names=("read", "right"), pairs=EXAMPLES):
    """Write examples as JSON Lines."""
    rows = (dict(zip(names, pair, strict=True)) for pair in pairs)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_format_with_fields_gives_the_same_errors(trained, tmp_path):
    run = open_run(trained / "run")
    by_lines = confusions_of(run, written(tmp_path / "a.jsonl"))
    table = tmp_path / "a.tsv"
    table.write_text("wrong\tnote\tright\n" + "".join(f"{a}\t\t{b}\n" for a, b in EXAMPLES))
    assert confusions_of(run, table, ("wrong", "right")).fingerprint == by_lines.fingerprint
    more = confusions_of(run, written(tmp_path / "b.jsonl", pairs=(*EXAMPLES, ("fax", "fox"))))
    assert more.fingerprint != by_lines.fingerprint
    o, e = (int(token) for token in run.tokenizer.encode("oe"))
    assert by_lines.read_as[o,][e,] == 3
    assert by_lines.rates.replaced == pytest.approx(3.5 / (sum(len(b) for _, b in EXAMPLES) + 1))


@pytest.mark.parametrize("way", [(), ("--one-pass",), ("--walk", "--steps", 3)])
def test_examples_of_errors_are_taken_by_every_way_to_correct(
    way, trained, tmp_path, call, call_json, refuse
):
    # What is read as o is an e, and an o never is: a model that has learned nothing corrects it.
    names, pairs = ("ocr", "truth"), (("tho quick fxx", "the quick fox"),) * 40
    examples = written(tmp_path / "a.jsonl", names, pairs)
    command = ("correct", trained / "run", "tho quick fox", *way, "--threshold", 0.01)
    flags = ("--examples", examples, "--example-fields", *names)
    result = call_json(*command, *flags)
    run = open_run(trained / "run")
    confusions = confusions_of(run, examples, names)
    assert result["error_rate"] == pytest.approx(confusions.rate)
    assert (2, "o", "e") in [(c["position"], c["from"], c["to"]) for c in result["changes"]]
    assert result["changes"] != call_json(*command, "--snr", result["snr"])["changes"]
    if way == ("--one-pass",):
        by_hand = correct(run, "tho quick fox", OnePass(0.01), confusions=confusions)
        assert by_hand.text == result["text"]
    texts, out = tmp_path / "texts.txt", tmp_path / "out.jsonl"
    texts.write_text("tho quick fox\n")
    by_record = ("correct", trained / "run", "--file", texts, "--out", out, *command[3:], *flags)
    call(*by_record)
    (line,) = map(json.loads, out.read_text().splitlines()[-1:])
    assert line["changes"] == result["changes"]
    # Other examples are other results, even in a file of the same name.
    written(examples, names, (*pairs, ("fax", "fox")))
    assert refuse(*by_record)
    assert "without --examples" in refuse(*command, "--example-fields", "ocr", "truth")


def test_where_nearly_all_is_read_wrong_the_examples_still_say_what_it_is(trained):
    run = open_run(trained / "run")
    read, right = (run.tokenizer.encode(letter * 99).tolist() for letter in "ze")
    confusions = learn_confusions([(read, right)], run.tokenizer.vocabulary_size)
    assert confusions.rate > 1 - 1 / confusions.num_symbols
    result = correct(run, "zzz", OnePass(0.0), confusions=confusions)
    assert (result.snr, result.text) == (0.0, "eee")


@pytest.mark.parametrize(("rows", "name", "flags", "said"), [
    ([{"read": "a", "right": ""}], "a.jsonl", (), "no right text"),
    ([{"wrong": "a", "right": "b"}], "a.jsonl", (), "--example-fields"),
    ([{"read": "a", "right": "b"}], "a.txt", (), "has no fields"),
    ([{"read": "a", "right": "b"}], "a.jsonl", ("--snr", 3), "--snr"),
    ([{"read": "a", "right": "b"}], "a.jsonl", ("--confidences", "1,1,1"), "--confidences"),
    ([{"read": "a", "right": "b"}], "a.jsonl", ("--one-pass", "--data", "builtin"), "--data"),
    ([], "a.jsonl", (), "empty"),
])  # fmt: skip
def test_examples_that_cannot_be_used_are_refused_in_one_sentence(
    rows, name, flags, said, trained, tmp_path, refuse
):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert said in refuse("correct", trained / "run", "the", "--examples", path, *flags)


def test_errors_are_not_learned_for_texts_in_slots(slotted, tmp_path, refuse):
    path = written(tmp_path / "a.jsonl")
    assert "slots" in refuse("correct", slotted, "the", "--examples", path)
