"""What is learned is learned from training text alone; alphabets are those of all texts given."""

import numpy as np
import pytest

from stochloc.data import load_corpus
from stochloc.data.corpora import load_mixture
from stochloc.data.sequence_corpora import load_sequences
from stochloc.data.sequence_files import record_hash
from stochloc.data.tokenizers.choices import BytePairs
from stochloc.data.tokenizers.sequences import SequenceTokenizer
from stochloc.data.tokenizers.words import WordTokenizer

HALVES = (0.5, 0.25, 0.25)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path_factory.getbasetemp() / "learning"))


@pytest.fixture
def learned_from(monkeypatch):
    """The texts that byte pairs were learned from, the last of them last."""
    texts, learned = [], BytePairs._learned

    def noting(choice, pieces):
        pieces = list(pieces)
        texts.append("".join(pieces))
        return learned(choice, pieces)

    monkeypatch.setattr(BytePairs, "_learned", noting)
    return texts


def letters(num, seed=0):
    drawn = np.random.default_rng(seed).choice(list("abcdefé "), num)
    return "".join(drawn)


@pytest.mark.parametrize("end", [letters(3000, 1), "z" * 6000, "é" * 3000 + letters(500, 2)])
def test_pairs_are_learned_from_a_beginning_that_lies_within_the_training_part(
    end, tmp_path, learned_from
):
    """Many z are few tokens once they are learned: half the tokens then end among the letters."""
    path = tmp_path / "text.txt"
    path.write_text(letters(3000) + end, encoding="utf-8")
    corpus = load_corpus(path, "bpe:400", fractions=HALVES)
    train = corpus.tokenizer.decode_bytes(corpus.train)
    own = learned_from[-1].encode()
    assert train.startswith(own) and len(own) > len(train) // 8
    # The tokenizer in hand splits the text as learning did, so a run finds its text again.
    again = load_corpus(path, corpus.tokenizer, fractions=HALVES)
    assert again.fingerprint() == corpus.fingerprint()


def test_pairs_of_several_texts_and_of_classes_are_learned_from_the_training_part_of_each(
    tmp_path, learned_from
):
    for name, end in (("a", "xyxy"), ("b", "vwvw")):
        (tmp_path / name).write_text(letters(2000) + end * 500)
    files = [tmp_path / name for name in "ab"]
    mixed = load_mixture(files, (), "bpe:300", fractions=HALVES)
    classes = load_corpus(f"A={files[0]},B={files[1]}", "bpe:300", fractions=HALVES)
    for corpus, text in ((mixed, learned_from[0]), (classes, learned_from[-1])):
        held_out = corpus.tokenizer.decode(np.concatenate([corpus.valid, corpus.test]))
        assert set("xyvw") <= set(held_out) and not set("xyvw") & set(text)


def test_pairs_of_sequences_are_learned_from_training_sequences(tmp_path, learned_from):
    lines = [letters(9, seed) for seed in range(300)]
    (tmp_path / "lines").write_text("\n".join(lines), encoding="utf-8")
    corpus = load_sequences(str(tmp_path / "lines"), "bpe:270", fractions=HALVES)
    own = "".join(line for line in lines if record_hash(line) / 2**64 < 0.5)
    assert learned_from == [own] and 0.3 < len(corpus.train) / 300 < 0.7
    load_sequences(str(tmp_path / "lines"), "bpe:270", valid=str(tmp_path / "lines"),
                   test=str(tmp_path / "lines"))  # fmt: skip
    assert learned_from[-1] == "".join(lines)


@pytest.mark.parametrize(("name", "extra"), [("characters", "ö"), ("words", "new")])
def test_symbols_of_held_out_files_alone_are_read_too(name, extra, tmp_path):
    for file, text in (("a", "the cat " * 50), ("b", f"the {extra} cat\n" * 9)):
        (tmp_path / file).write_text(text, encoding="utf-8")
    own, other = tmp_path / "a", tmp_path / "b"
    loads = (
        load_corpus(own, name, valid=other, test=other),
        load_mixture([own, own], (), name, test=other),
        load_sequences(str(own), name, valid=str(other), test=str(other)),
    )
    for corpus in loads:
        plain = getattr(corpus.tokenizer, "inner", corpus.tokenizer)
        assert extra in (plain.alphabet if name == "characters" else plain.words)
        assert extra not in corpus.tokenizer.decode(np.asarray(plain.encode("the cat")))
    assert extra in loads[0].tokenizer.decode(loads[0].test)


def chords(folder, num=60):
    """A file of lines, each with a chord of its own, and what the training part has of it."""
    lines = [f"C Am C {n} G7" for n in range(num)]
    (folder / "chords").write_text("\n".join(lines), encoding="utf-8")
    train = [line for line in lines if record_hash(line) / 2**64 < 0.5]
    return folder / "chords", lines, train


def test_training_words_are_those_of_training_sequences_and_others_leave_a_line_out(
    tmp_path, capsys
):
    path, lines, train = chords(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"\nC {'Am ' * (n + 1)}" for n in range(20)))
    corpus = load_sequences(str(path), "words:train", fractions=HALVES)
    plain = corpus.tokenizer.inner
    assert plain.words == tuple(sorted({word for line in train for word in line.split()}))
    said = capsys.readouterr().err
    left_out = len(lines) - len(train)
    assert f"a word that is not in the vocabulary are left out, {left_out} in all: line" in said
    whole = load_sequences(str(path), "words", fractions=HALVES)
    for name, part in corpus.parts.items():
        every = whole.parts[name]
        texts = [corpus.tokenizer.decode(row) for rows in part.by_length() for row in rows.tokens]
        others = [whole.tokenizer.decode(row) for rows in every.by_length() for row in rows.tokens]
        kept = [text for text in others if name == "train" or text not in lines]
        assert texts == kept and len(texts)
    # A run has the tokenizer, and finds the same sequences by it.
    again = load_sequences(str(path), corpus.tokenizer, fractions=HALVES)
    assert again.fingerprint() == corpus.fingerprint()
    with pytest.raises(ValueError, match=r"line \d+ of .*chords cannot be encoded: The word"):
        load_sequences(str(path), corpus.tokenizer, fractions=HALVES, leave_out=False)


def test_a_training_sequence_is_never_left_out(tmp_path):
    path, _, train = chords(tmp_path)
    own = load_sequences(str(path), "words", fractions=HALVES).tokenizer.inner
    lacking = SequenceTokenizer(WordTokenizer(tuple(w for w in own.words if w not in train[0])))
    with pytest.raises(ValueError, match="cannot be encoded: The word"):
        load_sequences(str(path), lacking, fractions=HALVES)


def test_held_out_files_lose_the_lines_with_other_words_and_training_words_ignore_them(
    tmp_path, capsys
):
    (tmp_path / "train").write_text("C Am\nG7 C\n" * 9)
    (tmp_path / "other").write_text("C C\nC F\nAm\n")
    held_out = str(tmp_path / "other")
    corpus = load_sequences(str(tmp_path / "train"), "words:train", valid=held_out, test=held_out)
    assert corpus.tokenizer.inner.words == ("Am", "C", "G7")
    assert corpus.valid.lengths.tolist() == corpus.test.lengths.tolist() == [2, 1]
    assert "are left out, 1 in all: line 2 of" in capsys.readouterr().err


def test_a_long_text_with_other_words_in_its_held_out_parts_is_refused(tmp_path):
    path = tmp_path / "text"
    path.write_text("the cat " * 30 + "the dog")
    with pytest.raises(ValueError, match=r"lacks words .*\(1 in all: 'dog'\): take words,"):
        load_corpus(path, "words:train", fractions=HALVES)
    path.write_text("the dog " + "the cat " * 30)
    corpus = load_corpus(path, "words:train", fractions=HALVES)
    assert corpus.tokenizer.words == ("cat", "dog", "the")
    with pytest.raises(ValueError, match="2 in all: 'cat', 'dog'"):
        load_mixture([path, path], (), "words:train", fractions=(0.01, 0.5, 0.49))


def test_the_last_word_of_a_text_does_not_run_into_the_next_text(tmp_path):
    for file, text in (("a", "a dog " * 20 + "dog"), ("b", "the cat " * 20)):
        (tmp_path / file).write_text(text)
    corpus = load_mixture([tmp_path / "a", tmp_path / "b"], (), "words", fractions=HALVES)
    assert corpus.tokenizer.to_dict()["words"] == ["a", "cat", "dog", "the"]
