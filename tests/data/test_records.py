"""Records: the texts of a file one by one, whatever its format."""

import gzip
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data.records import Reading, joined, record_source
from stochloc.data.texts import TextSource

TEXTS = ["one", 'two, "and" a half', "three\nlines\tof it", "é→𝄞"]


def texts_of(*arguments):
    return [record.text for record in record_source(*arguments).records()]


def in_pieces(text, size):
    return TextSource("t", {}, lambda: (text[i : i + size] for i in range(0, len(text), size)))


def as_parquet(path, columns):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the package pyarrow")
    import pyarrow

    parquet.write_table(pyarrow.table(columns), path)


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def write_csv(path):
    rows = "".join(f"{number},{quoted(text)}\r\n" for number, text in enumerate(TEXTS))
    path.write_bytes(f"\ufeffid,text\r\n{rows}".encode())


WRITERS = {
    "a.jsonl": lambda path: path.write_text(
        "\n".join(json.dumps({"id": 1, "text": text}) for text in TEXTS) + "\n\n"
    ),
    "a.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress("\n".join(json.dumps({"text": text}) for text in TEXTS).encode())
    ),
    "a.json": lambda path: path.write_text(json.dumps([{"text": text} for text in TEXTS])),
    "a.JSON.xz": lambda path: path.write_bytes(
        lzma.compress(json.dumps([{"text": text} for text in TEXTS]).encode())
    ),
    "a.csv": write_csv,
    "a.tsv": lambda path: path.write_text(
        "text\tid\n" + "".join(f"{quoted(text)}\t1\n" for text in TEXTS)
    ),
    "a.parquet": lambda path: as_parquet(path, {"id": [1, 2, 3, 4], "text": TEXTS}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_with_fields_gives_the_texts_that_were_written(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    source = record_source(path, "text")
    records = list(source.records())
    assert [record.text for record in records] == TEXTS
    assert list(source.records()) == records  # read as often as needed
    assert len({record.name for record in records}) == 4
    assert b"".join(joined(source).chunks()) == "\n".join(TEXTS).encode()
    assert source.fingerprint != record_source(path, "text").fingerprint | {"field": "id"}


@given(st.lists(st.text("aé\n\r", max_size=4)), st.integers(1, 5))
def test_lines_are_the_same_however_the_bytes_are_cut(parts, size):
    text = "".join(parts)
    expected = text.replace("\r\n", "\n").replace("\r", "\n") + "."
    assert texts_of(in_pieces(f"{text}.".encode(), size)) == expected.split("\n")


def test_a_line_is_named_by_its_number_and_a_byte_order_mark_is_no_part_of_it(tmp_path):
    path = tmp_path / "names.txt.gz"
    path.write_bytes(gzip.compress("\ufeffann\r\n\r\nbo\n\n\n".encode()))
    records = list(record_source(path).records())
    assert [record.text for record in records] == ["ann", "", "bo"]
    assert records[2].name == f"line 3 of {path}"


def test_many_records_are_joined_by_single_line_breaks():
    text = "\n".join(f"{number}" for number in range(10_000)).encode()
    assert b"".join(joined(record_source(in_pieces(text, 1 << 18))).chunks()) == text


def test_fasta_loses_its_headers_and_keeps_every_letter(tmp_path):
    path = tmp_path / "genes.fna"
    path.write_text(">one of two\nACgt\nnn-R\n\n>two\r\nttt aaa\r\n")
    records = list(record_source(path).records())
    assert [record.text for record in records] == ["ACGTNN-R", "TTTAAA"]
    assert records[1].name == f"the sequence of line 5 of {path} (>two)"
    assert b"".join(Reading().text(path).chunks()) == b"ACGTNN-R\nTTTAAA"


def test_fields_within_fields_are_named_with_dots(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": {"b": {"c": "deep"}, "b.c": "flat"}, "x.y": "dotted"}')
    assert texts_of(path, "a.b.c") == ["flat"]
    assert texts_of(path, "x.y") == ["dotted"]


def test_fields_within_columns_of_a_parquet_table_are_named_with_dots(tmp_path):
    as_parquet(tmp_path / "a.parquet", {"a": [{"b": "deep"}, {"b": "er"}]})
    assert texts_of(tmp_path / "a.parquet", "a.b") == ["deep", "er"]


def test_a_column_can_be_numbered_and_an_only_one_need_not_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\na,b\n\nc,d\n")
    (tmp_path / "b.csv").write_text("x\na\n")
    (tmp_path / "c.jsonl").write_text('"a"\n"b"\n')
    as_parquet(tmp_path / "d.parquet", {"id": [1, 2], "text": ["a", "b"]})
    assert texts_of(tmp_path / "a.csv", "2") == ["b", "d"]
    assert texts_of(tmp_path / "b.csv") == ["a"]
    assert texts_of(tmp_path / "c.jsonl") == ["a", "b"]
    assert texts_of(tmp_path / "d.parquet") == ["a", "b"]


def test_a_folder_is_its_files_in_order_without_the_hidden_ones(tmp_path):
    for name, text in (("b.txt", "3\n4\n"), ("a.txt", "1\n2"), (".x.csv", "?"), ("c/d.txt", "5")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert texts_of(tmp_path) == ["1", "2", "3", "4", "5"]
    before = record_source(tmp_path).fingerprint
    (tmp_path / "c" / "d.txt").write_text("6")
    assert record_source(tmp_path).fingerprint != before


def test_text_that_could_have_fields_stays_text_unless_one_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('["a",\n"b"]')
    assert b"".join(Reading().text(path).chunks()) == path.read_bytes()
    assert texts_of(path) == ["a", "b"]


def test_a_pipe_is_lines_or_with_a_field_json_lines():
    assert texts_of(in_pieces(b'{"a": "x"}\n{"a": "y"}', 3), "a") == ["x", "y"]
    assert texts_of(in_pieces(b"x\ny", 3)) == ["x", "y"]


REFUSED = {
    "a.jsonl": [
        ('{"a": "x"}\n{"a": "y"', "a", "Line 2 of FILE is not JSON"),
        ('{"a": "x"}\n\n{"b": 1, "c": 2}', "a", "Line 3 of FILE has no field 'a'; there are b, c:"),
        ('{"a": {"b": 1}}', "a.c", "Line 1 of FILE has no field 'a.c'; there is a:"),
        ('{"a": "x", "b": "y"}', None, "Line 1 of FILE has several fields; there are a, b: name"),
        ('{"a": 3}', "a", "The field 'a' of line 1 of FILE is the number 3 and no text"),
        ('{"a": null}', "a", "The field 'a' of line 1 of FILE is empty (null) and no text"),
        ('"x"\n3', None, "Line 2 of FILE is the number 3; a text or an object"),
        ('"x"', "a", "Line 1 of FILE has no fields, so no 'a': it is a text"),
        ('"\\ud800"', None, "Line 1 of FILE holds one half of a surrogate pair"),
        ("\n \n", "a", "FILE holds no texts"),
        ("[" * 100_000, "a", "Line 1 of FILE is not JSON"),
    ],
    "a.json": [
        ('{"a": "x"}\n{"a": "y"}', "a", "FILE is not JSON (Extra data: line 2"),
        ('{"a": "x"}', "a", "FILE does not hold a JSON array"),
        ("[]", None, "FILE holds no texts"),
        ('["a", {"b": "c"}]', "b", "Element 1 of FILE has no fields, so no 'b'"),
    ],
    "a.csv": [
        ("x,y\na,b\nc\n", "y", "Row 3 of FILE has 1 columns where the first row has 2"),
        ("x,y\na,b\n", "z", "FILE has no column 'z'; there are x, y"),
        ("x,y\na,b\n", "3", "FILE has no column '3'; there are x, y"),
        ("x,y\na,b\n", None, "FILE has several columns: x, y; name one"),
        ('x,y\na,b\n"c,d\n', "x", "Row 3 of FILE is not that of a table"),
        ("x,y\n", "x", "FILE holds no texts"),
    ],
    "a.fasta": [
        ("ACGT\n>x\nAC\n", None, "FILE is not FASTA: line 1 of FILE comes before any header"),
        (">x\n>y\nAC\n", None, "The header in line 1 of FILE (>x) has no sequence below it"),
        (">x\nAC\n", "a", "FILE has no fields, so no 'a'"),
    ],
    "a.parquet": [
        ("PAR1 no longer", None, "FILE cannot be read as Parquet ("),
    ],
    "a.txt": [
        ("a", "b", "FILE has no fields, so no 'b'"),
        (b"one\n\xff\xd8\xff\n", None, "Line 2 of FILE is not UTF-8"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "contents", "field", "sentence"),
    [(name, *case) for name, cases in REFUSED.items() for case in cases],
)
def test_what_cannot_be_read_is_refused_by_the_name_of_file_and_record(
    tmp_path, name, contents, field, sentence
):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs the package pyarrow")
    path = tmp_path / name
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(ValueError, match=r".") as refused:
        texts_of(path, field)
    assert str(refused.value).startswith(sentence.replace("FILE", str(path)))


def test_parquet_columns_are_named_where_the_choice_is_not_clear(tmp_path):
    path = tmp_path / "a.parquet"
    as_parquet(path, {"id": [1], "a": ["x"], "b": ["y"]})
    with pytest.raises(ValueError, match=r"has several columns of text: a, b; name one"):
        texts_of(path)
    with pytest.raises(ValueError, match=r"has no field 'c'; there are id, a, b: name one"):
        texts_of(path, "c")
    as_parquet(path, {"id": [1], "n": [2.5]})
    with pytest.raises(ValueError, match=r"has no column of text; there are id, n:"):
        texts_of(path)
    as_parquet(path, {"a": ["x", None]})
    with pytest.raises(ValueError, match=r"The field 'a' of row 2 of .* is empty \(null\)"):
        texts_of(path)


def test_a_folder_of_several_kinds_or_of_none_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.csv").write_text("b")
    with pytest.raises(ValueError, match=r"files of several kinds \(\.csv, \.txt\)"):
        texts_of(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"The folder .*none holds no files"):
        texts_of(tmp_path / "none")


def test_only_a_hugging_face_data_set_has_splits(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for ask in (Reading(split="test").text, Reading(split="test").records):
        with pytest.raises(ValueError, match=r"a\.txt has no splits: --hf-split is for hf:NAME"):
            ask(tmp_path / "a.txt")
