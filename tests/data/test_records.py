"""Records: the texts of a file one by one, whatever its format."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochloc.data.records import joined, record_source
from stochloc.data.texts import TextSource


def texts_of(*arguments):
    return [record.text for record in record_source(*arguments).records()]


def in_pieces(text, size):
    return TextSource("t", {}, lambda: (text[i : i + size] for i in range(0, len(text), size)))


@given(st.lists(st.text("aé\n\r", max_size=4)), st.integers(1, 5))
def test_lines_are_the_same_however_the_bytes_are_cut(parts, size):
    text = "".join(parts)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    found = texts_of(in_pieces(text.encode(), size))
    assert found == (expected if any(expected) else [])


def test_a_line_is_named_by_its_number_and_a_byte_order_mark_is_no_part_of_it(tmp_path):
    path = tmp_path / "names.txt.gz"
    path.write_bytes(gzip.compress("\ufeffann\r\n\r\nbo\n\n\n".encode()))
    source = record_source(path)
    records = list(source.records())
    assert [record.text for record in records] == ["ann", "", "bo"]
    assert records[2].name == f"line 3 of {path}"
    assert list(source.records()) == records  # read as often as needed
    assert b"".join(joined(source).chunks()) == b"ann\n\nbo"


def test_a_line_that_is_no_text_is_named(tmp_path):
    (tmp_path / "picture").write_bytes(b"one\n\xff\xd8\xff\n")
    with pytest.raises(ValueError, match=r"^Line 2 of .*picture is not UTF-8 \(.*\); give a text"):
        texts_of(tmp_path / "picture")


def test_many_records_are_joined_by_single_line_breaks():
    text = "\n".join(f"{number}" for number in range(10_000)).encode()
    assert b"".join(joined(record_source(in_pieces(text, 1 << 18))).chunks()) == text


def test_plain_text_has_no_fields(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"a\.txt is text, which has no field 'b'"):
        record_source(tmp_path / "a.txt", "b")
