"""Files larger than memory: streams in, lines out, shares, and going on after a kill."""

import json
import random
import re
from itertools import chain, zip_longest

import pytest
from filelock import FileLock

from stochloc.core import left_to_right
from stochloc.data.records import Record, RecordSource
from stochloc.data.texts import UnreadableTextError
from stochloc.tasks.by_record import Share, work_through
from stochloc.tasks.by_record.progress import HowMuchIsRead
from stochloc.tasks.by_record.results_file import About, ResultsFile, about_file, line_of
from stochloc.tasks.by_record.scoring import ScoreRecords
from stochloc.tasks.by_record.share import Processes
from stochloc.tasks.by_record.work import Numbered, batches
from stochloc.tasks.correct.correct import correct
from stochloc.tasks.correct.decoding import OnePass
from stochloc.tasks.hardware import own_device
from stochloc.tasks.runs import open_run
from stochloc.tasks.score import default_scoring

pytestmark = pytest.mark.bulk

LINES = ["the quick brown fox", "jumps", "", "over the 5 dogs", "the lazy dog and runs away", "fox",
         "and the dog", "over"]  # fmt: skip
TEMPLATES = ["the q_ick", "no such", "the {1-2}og", "_ox", "r_ns away"]


def results(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def interleaved(paths):
    """A line of each file in turn, as `paste` gives them."""
    lines = (path.read_bytes().splitlines(keepends=True) for path in paths)
    return b"".join(filter(None, chain.from_iterable(zip_longest(*lines))))


def assert_close(found, expected):
    """Equal but for the rounding of numbers in batches of another size."""
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for one, other in zip(found, expected, strict=True):
        for name, value in one.items():
            is_number = isinstance(value, float)
            assert value == (pytest.approx(other[name], rel=1e-4) if is_number else other[name])


@pytest.fixture
def commands(trained, tmp_path):
    """A cheap command of each of the three kinds, without its --out."""
    (tmp_path / "lines.txt").write_text("\n".join(LINES) + "\n\n")
    (tmp_path / "templates.txt").write_text("\n".join(TEMPLATES))
    run = trained / "run"
    return {
        "score": ("score", run, tmp_path / "lines.txt"),
        "correct": ("correct", run, "--file", tmp_path / "lines.txt", "--one-pass",
                    "--snr", 1, "--threshold", 0.2),
        "infill": ("infill", run, "--file", tmp_path / "templates.txt", "--draws", 2, "-n", 2,
                   "--steps", 2),
    }  # fmt: skip


NAMES = ("score", "correct", "infill")


def test_scores_are_those_of_the_table_and_a_refused_line_is_an_error(
    commands, tmp_path, call, call_json
):
    done = call_json(*commands["score"], "--out", tmp_path / "out.jsonl")
    assert (done["records"], done["errors"], done["new"]) == (8, 1, 8)
    told = call_json(*commands["score"])["lines"]
    found = results(tmp_path / "out.jsonl")
    assert [line["record"] for line in found] == list(range(1, 9))
    for line, expected in zip(found, told, strict=True):
        if expected["refused"] is None:
            del expected["refused"]
            assert {"record": line["record"], **expected} == line
        else:
            reason = expected["refused"].replace("Line 4", f"Line 4 of {tmp_path}/lines.txt")
            assert line == {"record": 4, "error": reason}
    call(*commands["score"], "--out", tmp_path / "tokens.jsonl", "--tokens")
    first = results(tmp_path / "tokens.jsonl")[0]
    assert "".join(token["token"] for token in first["tokens"]) == LINES[0]


def test_every_record_is_corrected_as_if_it_were_alone(commands, tmp_path, trained, call):
    call(*commands["correct"], "--out", tmp_path / "out.jsonl")
    run = open_run(trained / "run")
    for line, found in zip(LINES, results(tmp_path / "out.jsonl"), strict=True):
        alone = (
            correct(run, line, OnePass(0.2), 1).to_dict() if line else {"text": "", "changes": []}
        )
        assert (found["text"], found["changes"]) == (alone["text"], alone["changes"])


def test_every_template_has_the_answers_of_a_call_of_its_own(
    commands, tmp_path, trained, call, call_json, refuse
):
    call(*commands["infill"], "--out", tmp_path / "out.jsonl")
    for template, found in zip(TEMPLATES, results(tmp_path / "out.jsonl"), strict=True):
        alone = ("infill", trained / "run", template, *commands["infill"][4:])
        if "error" in found:
            reason = refuse(*alone).removeprefix("stochloc: ")
            assert found["error"] == f"Line 2 of {tmp_path}/templates.txt: {reason}"
        else:
            assert found["answers"] == call_json(*alone)["answers"]


@pytest.mark.parametrize("name", NAMES)
def test_cut_off_anywhere_a_file_goes_on_to_the_same_bytes(
    commands, tmp_path, call, monkeypatch, name
):
    monkeypatch.setattr(ScoreRecords, "most_records", 3)
    out, chance = tmp_path / "out.jsonl", random.Random(0)
    call(*commands[name], "--out", out)
    whole, about = out.read_bytes(), about_file(out).read_bytes()
    begun = re.sub(rb'"records": \d+\n', b'"records": null\n', about)
    assert begun != about
    for size in (0, 1, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(2))):
        about_file(out).write_bytes(begun)
        out.write_bytes(whole[:size])
        said = call(*commands[name], "--out", out)
        assert out.read_bytes() == whole
        assert about_file(out).read_bytes() == about
        assert ("records already" in said.err) == (whole[:size].count(b"\n") > 0)
    # A file that is complete is left as it is, and said to be.
    assert f"{len(results(out))} records" in call(*commands[name], "--out", out).out
    assert out.read_bytes() == whole


@pytest.mark.parametrize("name", NAMES)
def test_the_results_of_shares_taken_in_turn_are_those_of_the_whole(commands, tmp_path, call, name):
    call(*commands[name], "--out", tmp_path / "whole.jsonl")
    parts = [tmp_path / f"{number}.jsonl" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        call(*commands[name], "--out", part, "--shard", f"{number}/3")
    found = [json.loads(line) for line in interleaved(parts).splitlines()]
    assert_close(found, results(tmp_path / "whole.jsonl"))
    if name == "infill":  # every template is filled by itself
        assert interleaved(parts) == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(("count", "parts"), [(1, 3), (2, 2), (3, 4)])
def test_shares_of_a_share_taken_in_turn_are_the_share(count, parts):
    for share in Share(0, 1).split(count):
        numbers = [number for number in range(1, 60) if share.takes(number)]
        assert numbers == [share.number(place) for place in range(len(numbers))]
        own = [[n for n in range(1, 60) if s.takes(n)] for s in share.split(parts)]
        assert [n for n in chain.from_iterable(zip_longest(*own)) if n] == numbers


def test_other_settings_models_texts_and_shares_are_refused_and_change_nothing(
    commands, tmp_path, encoder, call, refuse
):
    out = tmp_path / "out.jsonl"
    score = commands["score"]
    call(*score, "--out", out)
    before = out.read_bytes(), about_file(out).read_bytes()
    (tmp_path / "other.txt").write_text("the dog")
    for command, what in (
        ((*score, "--seed", 1), "--seed"), ((*score, "--steps", 4), "--steps"),
        ((*score, "--shard", "1/2"), "share"), (("score", encoder, score[2]), "model"),
        (("score", score[1], tmp_path / "other.txt"), "text"), (commands["correct"], "command"),
    ):  # fmt: skip
        assert f"{out} holds results of another {what};" in refuse(*command, "--out", out)
    assert (out.read_bytes(), about_file(out).read_bytes()) == before


def test_files_that_are_somebody_elses_or_in_use_are_left_alone(commands, tmp_path, call, refuse):
    out, score = tmp_path / "out.jsonl", commands["score"]
    out.write_text("mine\n")
    assert f"{out} exists and is not a file that score has begun" in refuse(*score, "--out", out)
    assert out.read_text() == "mine\n"
    out.unlink()
    call(*score, "--out", out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join([*lines[:2], b"mine\n", *lines[3:]]))
    assert f"Line 3 of {out} is not what was written there" in refuse(*score, "--out", out)
    assert out.read_bytes().splitlines()[2] == b"mine"
    with FileLock(tmp_path / ".free.jsonl.lock"):
        sentence = refuse(*score, "--out", tmp_path / "free.jsonl")
    assert "Another process is writing to" in sentence
    assert not (tmp_path / "free.jsonl").exists()


@pytest.mark.parametrize(("command", "options", "sentence"), [
    ("score", ("--out", "a.txt"), "give it a name that ends with .jsonl"),
    ("score", ("--out", "no/a.jsonl"), "give a file in a folder that exists"),
    ("score", ("--out", "a.jsonl", "--shard", "0/2"), "A share is written 1/8, 2/8"),
    ("score", ("--out", "a.jsonl", "--shard", "3/2"), "not '3/2'"),
    ("score", ("--shard", "1/2"), "--shard has no effect without --out"),
    ("correct", ("--shard", "1/2", "--out", "a.txt"), "has no effect without --out NAME.jsonl"),
    ("correct", ("--out", "a.jsonl", "--confidences", "1"), "--confidences has no effect with"),
    ("infill", (), "need a file of their own; give --out"),
])  # fmt: skip
def test_requests_that_make_no_sense_are_refused_before_anything_is_written(
    commands, tmp_path, monkeypatch, refuse, command, options, sentence
):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert sentence in refuse(*commands[command], *options)
    assert set(tmp_path.iterdir()) == before


def test_single_texts_and_files_are_not_mixed(trained, tmp_path, monkeypatch, refuse):
    monkeypatch.chdir(tmp_path)
    run = trained / "run"
    assert "give one with --file, or another --out" in refuse(
        "correct", run, "a", "--out", "a.jsonl"
    )
    assert "--out has no effect without --file" in refuse("infill", run, "_", "--out", "a.jsonl")
    assert "Give either a text with blanks" in refuse("infill", run, "_", "--file", "a")
    assert "Give either a text with blanks" in refuse("infill", run)


def test_where_every_record_has_an_error_the_command_fails_and_says_where_to_look(
    trained, tmp_path, refuse
):
    (tmp_path / "bad.txt").write_text("5\n6\n")
    for _ in range(2):  # the second time nothing is left to do
        sentence = refuse("score", trained / "run", tmp_path / "bad.txt", "--out",
                          tmp_path / "out.jsonl")  # fmt: skip
        assert sentence == f"stochloc: Every record has an error; {tmp_path}/out.jsonl says why."
    assert [line["error"][:6] for line in results(tmp_path / "out.jsonl")] == ["Line 1", "Line 2"]


def test_rows_that_cannot_be_read_are_errors_and_the_others_are_scored(trained, tmp_path, call):
    run, out = trained / "run", tmp_path / "out.jsonl"
    (tmp_path / "a.jsonl").write_text('{"t": "the"}\n{"x": 1}\n\nnot JSON\n{"t": "fox"}\n')
    call("score", run, tmp_path / "a.jsonl", "--field", "t", "--out", out)
    assert [line.get("text") for line in results(out)] == ["the", None, None, "fox"]
    assert "has no field 't'" in results(out)[1]["error"]
    (tmp_path / "a.csv").write_text("id,t\n1,the\n2\n3,fox\n")
    call("score", run, tmp_path / "a.csv", "--field", "t", "--out", tmp_path / "csv.jsonl")
    assert [line.get("text") for line in results(tmp_path / "csv.jsonl")] == ["the", None, "fox"]
    (tmp_path / "a.txt").write_bytes(b"the\n\xff\nfox\n")
    call("score", run, tmp_path / "a.txt", "--out", tmp_path / "txt.jsonl")
    assert [line.get("text") for line in results(tmp_path / "txt.jsonl")] == ["the", None, "fox"]


def about(share=None):
    return About("score", {}, {}, {}, share or Share())


def test_no_more_than_a_batch_is_read_ahead_of_what_is_written(trained, tmp_path, monkeypatch):
    """So memory does not grow with the file, and a kill costs a batch at most."""
    run, out = open_run(trained / "run"), tmp_path / "out.jsonl"
    monkeypatch.setattr(ScoreRecords, "most_records", 5)

    def rows():
        for number in range(1, 64):
            assert number - out.read_bytes().count(b"\n") <= 5
            yield Record("the fox", f"line {number}")

    work = ScoreRecords(run, default_scoring(run))
    done = work_through(
        work, RecordSource("a", {}, rows), out, about(), HowMuchIsRead(), Processes()
    )
    assert done is not None and (done.records, done.new) == (63, 63)
    expected = left_to_right(
        run.denoiser_for(7), open_run(trained / "run").model.head.new_tensor(
            [run.tokenizer.encode("the fox").tolist()]).long(),
    ).mean  # fmt: skip
    assert results(out)[-1]["nats"] == pytest.approx(expected, rel=1e-5)


def test_what_came_before_a_file_breaks_off_is_kept(trained, tmp_path):
    run, out = open_run(trained / "run"), tmp_path / "out.jsonl"

    def rows():
        yield Record("the fox", "line 1")
        yield Record("the dog", "line 2")
        raise UnreadableTextError("a cannot be read")

    work = ScoreRecords(run, default_scoring(run))
    with pytest.raises(ValueError, match="a cannot be read"):
        work_through(work, RecordSource("a", {}, rows), out, about(), HowMuchIsRead(), Processes())
    assert [line["text"] for line in results(out)] == ["the fox", "the dog"]


def test_a_batch_is_full_by_records_or_by_characters():
    rows = [Numbered(n, Record("a" * size, "")) for n, size in enumerate([1, 1, 1, 9, 1, 5, 5], 1)]
    found = [[row.number for row in batch] for batch in batches(iter(rows), 3, 6)]
    assert found == [[1, 2, 3], [4], [5, 6], [7]]


def rank(monkeypatch, number, count):
    monkeypatch.setenv("RANK", str(number))
    monkeypatch.setenv("WORLD_SIZE", str(count))


@pytest.mark.parametrize("name", ["correct", "infill"])
def test_the_last_of_several_processes_joins_their_parts(
    commands, tmp_path, monkeypatch, call, refuse, name
):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    call(*commands[name], "--out", whole, "--shard", "2/2")
    command = (*commands[name], "--out", out, "--shard", "2/2")
    rank(monkeypatch, 1, 2)
    assert call(*command).out == ""
    assert not out.exists()
    rank(monkeypatch, 0, 1)
    assert "were begun by 2 processes; go on with as many" in refuse(*command)
    rank(monkeypatch, 0, 2)
    assert f"{out}: " in call(*command).out
    assert out.read_bytes() == whole.read_bytes()
    assert about_file(out).read_bytes() == about_file(whole).read_bytes()
    left = {path.name for path in tmp_path.glob("*out.jsonl*")}
    assert left == {"out.jsonl", "out.jsonl.about.json", ".out.jsonl.lock"}
    for number in (0, 1):  # a second start finds all of it, and one process says so
        rank(monkeypatch, number, 2)
        assert bool(call(*command).out) == (number == 0)
    assert out.read_bytes() == whole.read_bytes()


def test_processes_go_on_with_what_they_began_and_share_no_pipe(
    commands, tmp_path, monkeypatch, call, refuse
):
    out = tmp_path / "out.jsonl"
    with ResultsFile.opened(out, about()) as begun:
        begun.append([{"record": 1, "text": ""}])
    rank(monkeypatch, 0, 2)
    assert "another model" in refuse(*commands["score"], "--out", out)
    assert "A pipe has one reader" in refuse("score", commands["score"][1], "-", "--out", out)


def test_each_process_has_a_device_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert own_device("auto", {}) == "cuda"
    assert own_device("auto", {"LOCAL_RANK": "3"}) == "cuda:3"
    assert own_device("cuda", {"LOCAL_RANK": "5"}) == "cuda:1"
    assert own_device("cpu", {"LOCAL_RANK": "3"}) == "cpu"


def test_bytes_that_are_no_text_are_written_as_json_that_every_parser_reads():
    for text in ("grün ± \u2028", "a\udcff"):
        line = line_of({"record": 1, "text": text})
        assert line.count(b"\n") == 1 and json.loads(line.decode()) == {"record": 1, "text": text}


def test_progress_is_told_with_the_share_of_the_file(commands, tmp_path, monkeypatch, call):
    monkeypatch.setattr("stochloc.tasks.by_record.progress.FIRST_LINE_S", 0)
    said = call(*commands["score"], "--out", tmp_path / "out.jsonl").err
    assert re.search(r"^score: 8 records, [\d.,]+ a second, 1 with an error, 100.0% of the file$",
                     said, re.MULTILINE)  # fmt: skip
