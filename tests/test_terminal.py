"""When output fails: messages may be lost silently, results never are."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from stochloc.cli import main
from stochloc.terminal import (
    Messages,
    ReaderGoneError,
    ResultLostError,
    guarded,
    is_first_process,
    say,
    tell,
    times,
)
from stochloc.training.progress import ProgressDisplay

pytestmark = pytest.mark.bulk

TEXT = "der grüne Löwe sieht das λόγος ± γ und läuft. "
SETTINGS = (
    "--length", "16", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--accelerator", "cpu",
)  # fmt: skip
SMALL = (
    "--length", "8", "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
    "--grid", "1e-3", "--windows", "2", "--samples", "1", "--texts", "2", "--steps", "2",
    "--budget", "updates=1", "--methods", "ar", "--accelerator", "cpu",
)  # fmt: skip
COMMANDS = (
    "quickstart", "train", "eval", "sample", "infill", "score", "correct", "tune", "cyclic",
    "plot", "compare", "import", "demo", "export", "push", "pull",
)  # fmt: skip
# The results of these two go to folders of their own, so each call has another --out.
WITH_RESULTS = {
    "eval": ("RUN", "--sequences", "2", "--steps", "2"),
    "sample": ("RUN", "--n", "2", "--steps", "2"),
    "infill": ("RUN", "gr{1-2}ne Löwe", "--draws", "2", "--steps", "2"),
    "score": ("RUN", "LINES", "--steps", "2", "--tokens"),
    "correct": ("RUN", "der grune Löwe", "--snr", "3", "--threshold", "0.1"),
    "tune": ("RUN", "--sequences", "1"),
    "compare": ("--data", "TEXT", *SMALL),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text that ASCII lacks, a run on it, and a cache of its own."""
    folder = tmp_path_factory.mktemp("place")
    os.environ["STOCHLOC_CACHE"] = str(folder / "cache")
    (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    (folder / "lines.txt").write_text(TEXT[:20], encoding="utf-8")
    main(["train", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *SETTINGS,
          "--steps", "2"])  # fmt: skip
    yield folder
    del os.environ["STOCHLOC_CACHE"]


@pytest.fixture(autouse=True)
def short_tuning(monkeypatch):
    """Fewer measurements: what comes out is another test's business."""
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 2)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    monkeypatch.setattr("stochloc.tasks.tune.REPORTED_STEPS", (4,))


def command_line(place, command, *more):
    names = {"RUN": place / "run", "LINES": place / "lines.txt", "TEXT": place / "text.txt"}
    out = () if command != "compare" else ("--out", place / "comparison")
    return [str(names.get(word, word)) for word in (command, *WITH_RESULTS[command], *out, *more)]


@contextmanager
def stream_to(descriptor):
    """A text stream to a file that cannot be written to."""
    with open(descriptor, "w", encoding="utf-8") as stream:
        yield stream
        with suppress(OSError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # takes what is left


def unread():
    """A text stream whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return stream_to(writer)


class Failing(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error


FAILURES = [
    BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"),
    OSError(28, "No space left on device"), ValueError("I/O operation on closed file"), None,
]  # fmt: skip


@pytest.mark.parametrize("error", FAILURES, ids=str)
def test_no_message_can_fail(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", None if error is None else Failing(error))
    tell("a message")
    stream = Messages(sys.stderr)
    assert not stream.isatty()
    with ProgressDisplay(0, 4, 64, "token") as display:
        for step in range(1, 5):
            display.update(step, 1.0)
            display.say("a sample")


@pytest.mark.parametrize("error", FAILURES[1:3], ids=str)
def test_results_that_cannot_be_written_are_an_error_of_their_own(monkeypatch, error):
    monkeypatch.setattr(sys, "stdout", Failing(error))
    with guarded(), pytest.raises(ResultLostError, match=error.strerror):
        say("a result")


def test_a_reader_that_left_is_distinguished_from_results_that_are_lost(monkeypatch):
    for is_account in (True, False):
        with unread() as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            with guarded(), nullcontext() if is_account else pytest.raises(ReaderGoneError):
                (say if is_account else print)("a line\n" * 10_000)


# One command is enough for an encoding with more letters: all are spelled by the same handler.
@pytest.mark.parametrize(
    ("command", "encoding"), [*((name, "ascii") for name in WITH_RESULTS), ("score", "cp1252")]
)
def test_every_result_is_printed_in_every_encoding(place, monkeypatch, command, encoding):
    for more in ((), ("--json",)):
        shown = io.BytesIO()
        told = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
        monkeypatch.setattr(sys, "stderr", told)
        main(command_line(place, command, *more))
        text = shown.getvalue().decode(encoding)
        assert text.strip()
        if more:
            values = json.loads(text)
    if command == "infill":
        assert values["answers"]
        assert all(answer["text"].endswith("ne Löwe") for answer in values["answers"])
    if command == "score":
        assert values["lines"][0]["text"] == TEXT[:20]


def test_arguments_that_python_took_for_bytes_are_read_as_utf_8(place, capsys):
    # As in the C locale without Python's UTF-8 mode: every byte beyond ASCII is kept as one.
    main(["sample", str(place / "run"), "--prompt", "gr\udcc3\udcbcne", "--n", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["samples"][0].startswith("grüne")
    line = ("infill", str(place / "run"), "L\udcc3\udcb6_", "--constraint", "\udcc3\udca4-z",
            "-n", "1", "--json")  # fmt: skip
    with pytest.raises(SystemExit):
        main(list(line))  # a range that runs backwards, of characters that were understood
    assert "The range ä-z" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_pages_are_read_under_any_encoding(monkeypatch, command, encoding):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = shown.getvalue().decode(encoding)
    assert "--" in text
    assert "\\u" not in text
    assert "\\x" not in text


def test_symbols_are_spelled_letters_escaped_and_bytes_passed_on(monkeypatch):
    shown = io.BytesIO()
    stream = io.TextIOWrapper(shown, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded():
        print("± γ λόγος ≤ ü \udcff")
    assert shown.getvalue() == (b"+/- gamma \\u03bb\\u03cc\\u03b3\\u03bf\\u03c2 <= \\xfc \xff\n")
    assert stream.errors == "strict"


@pytest.mark.parametrize("command", WITH_RESULTS)
def test_a_command_whose_messages_nobody_reads_gives_the_same_result(place, monkeypatch, command):
    def result():
        shown = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="utf-8"))
        main(command_line(place, command, "--json"))
        values = json.loads(shown.getvalue())
        return {key: value for key, value in values.items() if key != "seconds"}

    read = result()
    with unread() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert result() == read
    monkeypatch.setattr(sys, "stderr", None)
    assert result() == read


@pytest.mark.parametrize("command", [*WITH_RESULTS, "--help"])
def test_a_command_whose_result_is_lost_ends_with_2_and_a_sentence(
    place, monkeypatch, capsys, command
):
    line = [command] if command == "--help" else command_line(place, command)
    assert last_words(monkeypatch, capsys, None, line).endswith("standard output: it is closed.")
    if Path("/dev/full").exists():
        with stream_to(os.open("/dev/full", os.O_WRONLY)) as stream:
            words = last_words(monkeypatch, capsys, stream, line)
        assert words.endswith("written to standard output: No space left on device.")


def last_words(monkeypatch, capsys, stdout, line):
    """What a command says that must end with 2 because of its stdout."""
    capsys.readouterr()
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
        patched.setattr(sys, "stdout", stdout)
        main(line)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_one_is_singular_and_all_other_numbers_are_plural():
    told = [times(number, "denoiser call") for number in (0, 1, 2)]
    assert told == ["0 denoiser calls", "1 denoiser call", "2 denoiser calls"]


def test_only_the_first_of_several_processes_prints(monkeypatch, capsys):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process()
    for first, others in (
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, {"LOCAL_RANK": "1", "NODE_RANK": "0"}),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, {"LOCAL_RANK": "0", "NODE_RANK": "1"}),
        ({"RANK": "0", "LOCAL_RANK": "0"}, {"RANK": "2", "LOCAL_RANK": "0"}),
    ):
        for variables, is_first in ((first, True), (others, False)):
            with monkeypatch.context() as patched:
                for name, value in variables.items():
                    patched.setenv(name, value)
                tell("once")
            assert capsys.readouterr().err == ("once\n" if is_first else "")


@pytest.fixture(autouse=True)
def buffered(monkeypatch):
    """Streams with buffers, which Python flushes once more at its exit, as users have them."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def shell(line, *arguments, **how):
    """Begin a line of bash, in which "$@" is stochloc with arguments."""
    words = [sys.executable, "-m", "stochloc", *map(str, arguments)]
    return subprocess.Popen(["bash", "-c", line, "bash", *words], **how)


def train(place, run, steps):
    settings = ("--steps", steps, "--eval-every", "100000", "--checkpoint-every", "100000")
    return ("train", "--data", place / "text.txt", *SETTINGS, *settings, "--out", run)


def wait_for_updates(run):
    until = time.monotonic() + 120
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 2):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("line", ['"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}',
                                  '"$@" <&- >&- 2>&-'])  # fmt: skip
def test_training_ends_well_whoever_reads_it_and_whatever_is_closed(place, tmp_path, line):
    run = tmp_path / "run"
    assert shell(line, *train(place, run, 40)).wait(timeout=120) == 0
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 40
    assert (run / "model.safetensors").exists()


def test_ctrl_c_under_tee_saves_and_ends_with_130(place, tmp_path):
    run = tmp_path / "run"
    # Ctrl-C goes to the whole group; the shell itself must live to tell the code.
    line = 'trap : INT; "$@" 2>&1 | tee log; exit ${PIPESTATUS[0]}'
    process = shell(line, *train(place, run, 10**6), cwd=tmp_path, start_new_session=True,
                    stdout=subprocess.DEVNULL)  # fmt: skip
    wait_for_updates(run)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert (run / "checkpoint.safetensors").exists()


def test_a_terminal_that_closes_saves_the_run(place, tmp_path):
    run = tmp_path / "run"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "stochloc",
                                  *map(str, train(place, run, 10**6))])  # fmt: skip
    wait_for_updates(run)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert (run / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_under_nohup_a_hangup_is_ignored_and_a_full_disk_takes_no_message(place, tmp_path):
    run = tmp_path / "run"
    line = 'exec nohup "$@" 2>/dev/full >/dev/full'
    process = shell(line, *train(place, run, 300), cwd=tmp_path)
    wait_for_updates(run)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 300
