"""Sequences: rows, splits, lengths and batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stochloc.data.lengths import Lengths
from stochloc.data.records.base import Record, RecordSource
from stochloc.data.sequence_batches import draw_batch, slice_begins
from stochloc.data.sequence_corpora import load_sequences
from stochloc.data.sequence_files import encode_records, record_hash
from stochloc.data.sequences import ABSENT, Sequences
from stochloc.data.tokenizers.labelled import LabelledTokenizer
from stochloc.data.tokenizers.named import sequence_tokenizer_for

LINES = st.lists(st.text("abcd", min_size=1, max_size=9), min_size=1, max_size=30)
QUICK = settings(max_examples=40, deadline=None)
TOKENIZER = sequence_tokenizer_for("characters", ["abcd"])
FRACTIONS, ALL = (0.5, 0.25, 0.25), (1.0, 0.0, 0.0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path_factory.getbasetemp() / "sequences"))


def source(lines):
    records = [Record(line, f"line {n} of a test") for n, line in enumerate(lines, 1)]
    return RecordSource("a test", {"lines": "\n".join(lines)}, lambda: iter(records))


def texts(sequences, tokenizer=TOKENIZER):
    return [tokenizer.decode(sequences.rows(np.array([n]))[0]) for n in range(len(sequences))]


def of_lengths(lengths):
    """Sequences of such lengths, in which every token is its own place in the flat array."""
    lengths = np.array(lengths)
    starts = np.cumsum(lengths) - lengths
    hashes = np.arange(len(lengths), dtype=np.uint64)
    return Sequences(np.arange(lengths.sum()), starts, lengths, hashes, int(lengths.sum()))


@given(LINES)
@QUICK
def test_records_become_rows_between_boundaries_and_rows_become_the_records(lines):
    sequences, boundary = encode_records(source(lines), TOKENIZER), TOKENIZER.boundary
    assert texts(sequences) == lines
    rows = sequences.rows(np.arange(len(lines)))
    assert rows.shape[1] == 2 + max(map(len, lines))
    for row, line in zip(rows, lines, strict=True):
        tokens = [boundary, *TOKENIZER.encode(line).tolist(), boundary]
        assert row.tolist() == tokens + [ABSENT] * (len(row) - len(tokens))


@given(LINES)
@QUICK
def test_groups_of_equal_length_hold_every_sequence_once_and_no_absent_place(lines):
    sequences = encode_records(source(lines), TOKENIZER)
    found = {}
    for rows in sequences.by_length():
        assert bool((rows.tokens != ABSENT).all())
        decoded = map(TOKENIZER.decode, rows.tokens)
        found |= dict(zip(rows.numbers.tolist(), decoded, strict=True))
    assert [found[n] for n in range(len(lines))] == lines


@given(LINES, st.randoms())
@settings(max_examples=10, deadline=None)
def test_a_text_is_in_the_part_of_its_hash_whatever_else_there_is(lines, random):
    corpus = load_sequences(source(lines * 3 + ["a", "b", "c", "d"]), TOKENIZER, fractions=ALL)
    assert [len(part) for part in corpus.parts.values()] == [3 * len(lines) + 4, 0, 0]
    shuffled = [*lines, *("abcd"[n % 4] * (n // 4 + 1) for n in range(80))]
    random.shuffle(shuffled)
    whole = load_sequences(source(shuffled), TOKENIZER, fractions=FRACTIONS)
    for name, low, high in (("train", 0, 0.5), ("valid", 0.5, 0.75), ("test", 0.75, 1)):
        expected = [line for line in shuffled if low <= record_hash(line) / 2**64 < high]
        assert texts(whole.parts[name]) == expected


def test_parts_get_their_shares_of_different_texts():
    # Binomial: 4,000 texts, standard deviation 32 at a half; 5.5 of them are a false alarm in 3e7.
    lines = ["".join("abcd"[n // 4**k % 4] for k in range(6)) for n in range(4000)]
    corpus = load_sequences(source(lines), TOKENIZER, fractions=FRACTIONS)
    for part, share in zip(corpus.parts.values(), FRACTIONS, strict=True):
        assert abs(len(part) - 4000 * share) < 5.5 * math.sqrt(4000 * share * (1 - share))


def test_what_a_person_should_know_is_counted():
    train = source(["abcd", "abc", "ab", "ab", "ab"])
    held_out = source(["abc", "abc", "dd"])
    corpus = load_sequences(train, valid=held_out, test=held_out)
    cut, copies, valid, test = corpus.remarks(3)
    assert cut.startswith("1 of 11 sequences are longer than 3 tokens")
    assert copies.startswith("2 of 5 training sequences repeat")
    assert valid.startswith("2 of 3 validation sequences are also in the training part")
    assert test.startswith("2 of 3 test sequences")
    assert texts(corpus.cut(3).train) == ["abc", "abc", "ab", "ab", "ab"]
    assert list(load_sequences(source(["a", "b"]), fractions=ALL).remarks(3)) == []


def test_the_fingerprint_tells_any_change_of_texts_ends_order_or_split():
    def of(lines, fractions=(1.0, 0.0, 0.0)):
        return load_sequences(source(lines), TOKENIZER, fractions=fractions).fingerprint()

    own = of(["ab", "c"])
    assert own == of(["ab", "c"])
    others = (["a", "bc"], ["c", "ab"], ["ab", "d"], ["ab", "c", "c"])
    assert all(of(lines) != own for lines in others)
    letters = [letter * n for letter in "abcd" for n in range(1, 9)]
    assert of(letters, (0.5, 0.25, 0.25)) != of(letters)


def test_bad_records_are_refused_by_name():
    for lines, message in (
        (["ab", "", "c"], "line 2 of a test is empty"),
        ([], "a test holds no sequence"),
    ):
        for tokenizer in (None, TOKENIZER):
            with pytest.raises(ValueError, match=message):
                load_sequences(source(lines), tokenizer)
    with pytest.raises(ValueError, match=r"line 2 of a test cannot be encoded: .*'x'"):
        load_sequences(source(["ab", "axb"]), TOKENIZER)
    with pytest.raises(ValueError, match="one endless text"):
        load_sequences("builtin")
    with pytest.raises(ValueError, match="too few sequences"):
        load_sequences(
            source(["ab"]), TOKENIZER, fractions=(1e-9, 0.5, 0.5 - 1e-9)
        ).check_training()


def test_an_accent_is_read_in_the_form_that_the_tokenizer_knows(capsys):
    tokenizer = sequence_tokenizer_for("characters", ["caf\u00e9"])
    sequences = encode_records(source(["cafe\u0301"]), tokenizer)
    assert texts(sequences, tokenizer) == ["caf\u00e9"]
    assert "NFC" in capsys.readouterr().err


def test_counts_and_checksums_do_not_depend_on_the_pieces_they_are_taken_in(monkeypatch):
    lines = ["abcd"[n % 4] * (n % 7 + 1) for n in range(200)]
    sequences = encode_records(source(lines), TOKENIZER)
    counts, checksum = sequences.counts(5), sequences.checksum()
    assert counts.tolist() == [*("".join(lines).count(letter) for letter in "abcd"), 0]
    monkeypatch.setattr("stochloc.data.sequences.COUNT_TOKENS", 10)
    assert sequences.counts(5).tolist() == counts.tolist()
    assert sequences.checksum() == checksum


def test_parts_are_joined_in_order_whether_or_not_they_share_an_array():
    one, other = encode_records(source(["ab", "c"]), TOKENIZER), of_lengths([1, 2])
    odd, even = one.taken(np.array([1])), one.taken(np.array([0]))
    assert texts(Sequences.joined([odd, even])) == ["c", "ab"]
    both = Sequences.joined([odd, other, even])
    assert [both.flat[b : b + n].tolist() for b, n in zip(both.starts, both.lengths, strict=True)] \
        == [[2], [0], [1, 2], [0, 1]]  # fmt: skip


def test_a_text_is_in_one_part_with_all_its_labels_and_texts_of_two_classes_are_counted(tmp_path):
    words = {name: [f"{name}{n % 4}" * (n % 3 + 1) for n in range(60)] for name in "ab"}
    both = ["ab"] * 3 + ["ba"]
    for name, own in words.items():
        (tmp_path / name).write_text("\n".join([*own, *both]))
    data, held = f"x={tmp_path / 'a'},y={tmp_path / 'b'}", f"y={tmp_path / 'b'},x={tmp_path / 'a'}"
    corpus = load_sequences(data, fractions=FRACTIONS)
    boundary = corpus.tokenizer.boundary
    assert (
        corpus.tokenizer.labels == ("x", "y") and boundary == corpus.tokenizer.vocabulary_size - 3
    )
    assert sum(map(len, corpus.parts.values())) == 2 * (60 + len(both))
    where = {}
    for name, part in corpus.parts.items():
        for number, text in enumerate(texts(part, corpus.tokenizer)):
            row = part.rows(np.array([number]))[0]
            own = {"a": 1, "b": 2}.get(text[0]) if text not in ("ab", "ba") else row[0] - boundary
            assert row[0] == boundary + own and row[1] == row[-1] == boundary
            assert where.setdefault(text, name) == name
    assert "8 of 128 sequences are in more than one class." in list(corpus.remarks(9))
    again = load_sequences(data, corpus.tokenizer, fractions=FRACTIONS)
    assert again.fingerprint() == corpus.fingerprint()
    other = load_sequences(held, corpus.tokenizer, fractions=FRACTIONS)
    assert other.fingerprint() != corpus.fingerprint()
    whole = load_sequences(data, valid=f"y={tmp_path / 'b'},x={tmp_path / 'b'}", test=held)
    assert [len(part) for part in whole.parts.values()] == [128, 128, 128]
    assert set(whole.valid.labels[:64].tolist()) == {boundary + 2}


def test_classes_without_a_training_sequence_or_in_one_of_two_places_are_refused(tmp_path):
    for name, text in (("a", "a\naa\n"), ("b", "b\n")):
        (tmp_path / name).write_text(text)
    data = f"x={tmp_path / 'a'},y={tmp_path / 'b'}"
    alone = load_sequences(str(tmp_path / "a"), fractions=ALL)
    for held_out in ({"valid": str(tmp_path / "b")}, {"test": data.replace("y=", "z=")}):
        with pytest.raises(ValueError, match="need the classes of --data"):
            load_sequences(data, **held_out)
    with pytest.raises(ValueError, match="cannot be joined"):
        load_sequences([data, str(tmp_path / "a")])
    share = record_hash("b") / 2**64
    with pytest.raises(ValueError, match="No training sequence is of the class y"):
        load_sequences(data, fractions=(share, 1 - share, 0.0)).check_training()
    labelled = LabelledTokenizer(alone.tokenizer, ("x", "y"))
    with pytest.raises(ValueError, match="No training sequence is of the class x"):
        load_sequences(str(tmp_path / "a"), labelled, fractions=ALL).check_training()


# --- Lengths ---


@given(st.lists(st.integers(1, 12), min_size=1, max_size=50), st.integers(12, 40))
@QUICK
def test_every_possible_length_has_a_probability_and_they_add_up_to_one(seen, longest):
    lengths = Lengths.of(np.array(seen), longest)
    every = lengths.log_prob(torch.arange(-1, longest + 3))
    assert every[[0, 1, -2, -1]].tolist() == [-math.inf] * 4
    assert float(every.exp().sum()) == pytest.approx(1, abs=1e-12)
    kinds, n = len(set(seen)), len(seen)
    expected = [(seen.count(k) + kinds / longest) / (n + kinds) for k in range(1, longest + 1)]
    torch.testing.assert_close(every[2:-2].exp(), torch.tensor(expected).double())
    assert Lengths.from_dict(lengths.to_dict()) == lengths


def test_lengths_are_drawn_by_their_probabilities_and_within_a_range_by_theirs():
    # χ² of 3 and of 1 degrees of freedom: beyond 31 or 24, one in a million.
    lengths = Lengths((0.1, 0.2, 0.3, 0.4))
    for own, places, limit in ((lengths, [1, 2, 3, 4], 31), (lengths.within(2, 3), [2, 3], 24)):
        drawn = own.sample(20_000, torch.Generator().manual_seed(1))
        expected = own.log_prob(torch.tensor(places)).exp() * len(drawn)
        counts = torch.bincount(drawn, minlength=5)
        assert int(counts.sum()) == int(counts[places].sum())
        assert float(((counts[places] - expected).square() / expected).sum()) < limit
    assert lengths.within(2, 3).probabilities == pytest.approx((0, 0.4, 0.6, 0))
    assert lengths.within(0, 99) == lengths
    both = Lengths((0.5, 0.5), {"x": Lengths((0.2, 0.8)), "y": Lengths((0.8, 0.2))})
    assert Lengths.from_dict(both.to_dict()) == both and both.given(None) is both
    assert both.given("x").within(2, 2).probabilities == (0, 1)


def test_lengths_that_are_none_are_refused():
    with pytest.raises(ValueError, match="of 5 to 9 tokens: the model knows lengths from 1 to 2"):
        Lengths((0.5, 0.5)).within(5, 9)
    for facts in (
        {}, {"probabilities": 3}, {"probabilities": [0.5]}, {"probabilities": ["a"]},
        {"probabilities": [1.0], "of_classes": {"x": [0.5]}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="robabilities of lengths"):
            Lengths.from_dict(facts)
    for seen in ([], [0], [5]):
        with pytest.raises(ValueError, match=r"1 \.\. 4"):
            Lengths.of(np.array(seen, dtype=np.int64), 4)


# --- Batches ---


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(22, 90))
@QUICK
def test_slices_hold_every_sequence_once_within_their_places_and_are_full(seen, places):
    lengths = np.sort(np.array(seen))[::-1].copy()
    begins = slice_begins(lengths + 2, places)
    for begin, end in zip(begins, [*begins[1:], len(lengths)], strict=True):
        cells = int(lengths[begin]) + 2
        assert end - begin >= 1 and (end - begin) * cells <= places
        assert end == len(lengths) or (end - begin + 1) * cells > places


@pytest.mark.bulk
def test_every_token_has_the_same_weight_in_expectation():
    """The weight of a token is 1 over the tokens of its batch, if it is there; all add up to 1.

    Five classes of sequences; 3,000 batches. The mean weight of each class must be its share of all
    tokens within 5.5 standard errors (a false alarm in 3e7 each), which are at most 0.009: batches
    drawn uniformly among the slices would give the shortest class three times its share.
    """
    every = of_lengths([1] * 200 + [2] * 100 + [5] * 60 + [11] * 30 + [30] * 12)
    of_class = np.repeat(np.arange(5), [200, 200, 300, 330, 360])
    draws, places = 3000, 64
    weights = np.zeros((draws, 5))
    generator = torch.Generator().manual_seed(3)
    for draw in range(draws):
        batch = draw_batch(every, places, generator)
        assert batch.numel() <= places
        text = batch[(batch != ABSENT) & (batch != every.boundary)].numpy()
        weights[draw] = np.bincount(of_class[text], minlength=5) / len(text)
    shares = np.bincount(of_class) / len(of_class)
    errors = weights.std(axis=0) / math.sqrt(draws)
    assert errors.max() < 0.009
    assert (np.abs(weights.mean(axis=0) - shares) < 5.5 * errors).all()


def test_a_batch_follows_from_its_generator_alone_and_is_hardly_padded():
    lengths = np.random.default_rng(0).integers(1, 60, 5000)
    every = of_lengths(lengths)
    first, again, other = (
        draw_batch(every, 2048, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first[:1, :3], other[:1, :3])
    absent = [
        float(
            (draw_batch(every, 2048, torch.Generator().manual_seed(seed)) == ABSENT).double().mean()
        )
        for seed in range(20)
    ]
    # Rows of 2,048 places drawn at random would be padded by half.
    assert max(absent) < 0.35 and sum(absent) / 20 < 0.08
