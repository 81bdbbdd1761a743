"""Texts in files of every format, several at once: as commands read them, store them, find them."""

import gzip
import json
import shutil

import pytest
from tasks.conftest import TEXT, TRAIN

from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.own_text import own_text
from stochloc.tasks.runs import open_run, read_description

pytestmark = pytest.mark.bulk

LINES = [f"{TEXT}{number}" for number in range(60)]
FEW = ("--sequences", 2, "--steps", 2)


def write_files(folder):
    (folder / "a.txt").write_text("\n".join(LINES))
    rows = [{"id": number, "said": {"text": line}} for number, line in enumerate(LINES)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "a.json").write_text(json.dumps(rows))
    table = "\n".join(f'{number},"{line}"' for number, line in enumerate(LINES))
    (folder / "a.csv.gz").write_bytes(gzip.compress(f"id,text\n{table}\n".encode()))
    (folder / "a.tsv").write_text("\n".join(["text", *LINES]))
    (folder / "parts").mkdir()
    (folder / "parts" / "1.txt").write_text("\n".join(LINES[:40]) + "\n")
    (folder / "parts" / "2.txt").write_text("\n".join(LINES[40:]))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the same text in files of many formats."""
    (tmp_path / "here").mkdir()
    write_files(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


FORMATS = [
    ("a.jsonl", "said.text"), ("a.json", "said.text"), ("a.csv.gz", "text"), ("a.csv.gz", "2"),
    ("a.tsv", "text"), ("parts", None),
]  # fmt: skip


@pytest.mark.parametrize(("data", "field"), FORMATS)
def test_the_same_text_has_the_same_tokens_in_every_format(place, data, field):
    corpus = DataChoice(data, field=field).load(None)
    assert corpus.fingerprint() == DataChoice("a.txt").load(None).fingerprint()


@pytest.mark.parametrize(("data", "field"), FORMATS)
def test_sequences_are_the_same_in_every_format(place, data, field):
    found = DataChoice(data, sequences=True, field=field).load(None)
    assert found.fingerprint() == DataChoice("a.txt", sequences=True).load(None).fingerprint()
    assert sum(map(len, found.parts.values())) == len(LINES)


def test_several_files_of_sequences_follow_each_other(place):
    choice = DataChoice("parts/1.txt", sequences=True, more_data=("parts/2.txt",))
    whole = DataChoice("a.txt", sequences=True)
    assert choice.load(None).fingerprint() == whole.load(None).fingerprint()


def test_a_run_finds_the_field_it_was_trained_on_wherever_it_is_now(
    place, call, call_json, refuse, monkeypatch
):
    call("train", "--data", "a.jsonl", "--field", "said.text", "--out", "run", *TRAIN)
    expected = call_json("eval", "run", *FEW)
    assert expected["text"] == "the test part of a.jsonl"
    monkeypatch.chdir(place.parent)
    assert call_json("eval", "here/run", *FEW) == expected
    (place / "a.jsonl").rename("moved.jsonl")
    assert "restore it, or give its place with --data" in refuse("eval", "here/run", *FEW)
    moved = call_json("eval", "here/run", "--data", "moved.jsonl", *FEW)
    assert moved == {**expected, "text": "the test part of moved.jsonl"}
    # The same tokens from another field of another format are the run's own too.
    other = call_json("eval", "here/run", "--data", "here/a.csv.gz", "--field", "text", *FEW)
    assert other == {**expected, "text": "the test part of a.csv.gz"}
    train = ("train", "--out", "here/run", "--resume", "--steps", 6)
    call(*train, "--data", "moved.jsonl", "--field", "said.text")
    assert "field would differ" in refuse(*train, "--field", "id")


def test_a_mixture_is_kept_and_found_again_and_resumes_where_it_is_now(
    place, call, call_json, refuse, monkeypatch
):
    (place / "b.txt").write_text(TEXT.upper() * 40)
    data = ("a.txt", "b.txt")
    call("train", "--data", *data, "--weights", 3, 1, "--out", "run", *TRAIN)
    _, _, choice = read_description(place / "run")
    assert choice == DataChoice("a.txt", more_data=("b.txt",), weights=(3.0, 1.0))
    expected = call_json("eval", "run", *FEW)
    monkeypatch.chdir(place.parent)
    assert call_json("eval", "here/run", *FEW) == expected
    corpus = own_text(open_run("here/run"))
    assert corpus.mixture is not None and corpus.mixture.weights == (3.0, 1.0)
    assert len(corpus.mixture.sizes) == 2
    (place / "b.txt").rename("moved.txt")
    train = ("train", "--out", "here/run", "--resume", "--steps", 6)
    assert "here/b.txt" in refuse(*train)
    assert "weights would differ" in refuse(*train, "--weights", 1, 1)
    assert "more_data would differ" in refuse(*train, "--data", "here/a.txt")
    assert "data 2 would differ" in refuse(*train, "--data", "here/a.txt", "here/parts")
    call(*train, "--data", "here/a.txt", "moved.txt")


def test_score_takes_every_record_of_a_file_as_a_line(trained, tmp_path, call_json):
    run = trained / "run"
    texts = ["the quick", "brown fox\njumps over", "the lazy dog"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"t": text}) for text in texts))
    found = call_json("score", run, path, "--field", "t")
    assert [line["text"] for line in found["lines"]] == texts
    (tmp_path / "a.txt").write_text("the quick\nthe lazy dog\n")
    plain = call_json("score", run, tmp_path / "a.txt")
    assert found["lines"][0]["nats"] == plain["lines"][0]["nats"]


BAD = [
    ("a.jsonl", '{"text": "x"}\n{"txt": "y"}', ("--field", "text"),
     "Line 2 of a.jsonl has no field 'text'; there is txt"),
    ("a.jsonl", '{"text": "x"}\n{"te', ("--field", "text"), "Line 2 of a.jsonl is not JSON"),
    ("a.json", "[]", ("--field", "text"), "a.json holds no texts"),
    ("a.csv", "id,text\n1,x\n", ("--field", "body"), "a.csv has no column 'body'; there are"),
    ("a.parquet", "PAR1", (), "a.parquet cannot be read as Parquet"),
    ("a.fa", "ACGT\n>x\nAC\n", (), "a.fa is not FASTA: line 1 of a.fa comes before any header"),
    ("a.txt", b"\x89PNG\r\n\x1a\n\0", (), "a.txt cannot be encoded: The text is not UTF-8"),
    ("a.txt", "abc" * 99, ("--field", "text"), "a.txt has no fields, so no 'text'"),
    ("a.txt", "abc" * 99, ("--hf-split", "test"), "a.txt has no splits"),
    ("a.txt", "abc" * 99, ("--weights", "1", "1"), "--weights has no effect with one --data"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "contents", "options", "sentence"), BAD)
def test_files_that_cannot_be_read_end_in_one_sentence_before_anything_is_written(
    tmp_path, monkeypatch, refuse, name, contents, options, sentence
):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs the package pyarrow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    assert sentence in refuse("train", "--data", name, "--out", "run", *options, *TRAIN)
    assert not (tmp_path / "run").exists()


def test_texts_that_cannot_be_mixed_are_refused(place, refuse):
    train = ("train", "--out", "run", *TRAIN, "--data", "a.txt", "parts")
    assert "3 weights for 2 texts" in refuse(*train, "--weights", 1, 2, 3)
    assert "not all positive" in refuse(*train, "--weights", 1, 0)
    assert "leave out --slots" in refuse(*train, "--slots")
    (place / "short.txt").write_text("the quick")
    assert "has 8 tokens, but windows need 16" in refuse(*train, "short.txt")
    assert not (place / "run").exists()


def test_a_damaged_choice_of_data_is_one_sentence(trained, tmp_path, refuse):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    facts = json.loads((run / "recipe.json").read_text())
    for change in ({"more_data": [3]}, {"weights": ["x"], "more_data": ["b"]}, {"field": 3}):
        damaged = {**facts, "data": {**facts["data"], **change}}
        (run / "recipe.json").write_text(json.dumps(damaged))
        assert "recipe.json is damaged" in refuse("eval", run, *FEW)
