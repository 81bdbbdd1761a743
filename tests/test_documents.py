"""The documents are correct: commands parse, cheap ones run, code works."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import tyro

from stochloc.cli import main

pytestmark = pytest.mark.bulk

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(
    str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")
))  # fmt: skip
# What stands between backticks may leave out what a command cannot do without.
INCOMPLETE = re.compile(r"stochloc [a-z]+( --[a-z-]+)*$|…|\.\.\.|[A-Z]{3,}")
# Where the shell takes over: redirections and pipes.
REST = re.compile(r" +(\d?>|\|).*")
TEXT = "the quick brown fox jumps over the lazy dog. once upon a time there was a king. "
TINY = ("--steps", "2", "--length", "32", "--width", "16", "--depth", "1", "--heads", "2",
        "--batch-size", "4", "--accelerator", "cpu")  # fmt: skip
# Commands of these pages that take minutes, each with what runs in their stead.
TOO_LONG = {
    "stochloc quickstart": "a model of its own size; tests/test_cli.py runs a smaller one",
    "stochloc cyclic": "all paths in 128 steps; tests/test_cli.py runs a smaller one",
    "stochloc compare": "trains every method; tests/tasks/test_compare.py runs three small ones",
    "stochloc plot": "measures a trained model; tests/viz/test_pictures.py draws every figure",
}


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """Return the words of every `stochloc` command of a block of shell."""
    lines = [REST.sub("", line) for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [line for line in words if line[:1] == ["stochloc"]]


def shown(page: str) -> list[list[str]]:
    """Return the commands of a page: those of its blocks, and those between backticks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    spans = re.findall(r"`(stochloc [^`\n]+)`", text)
    whole = [shlex.split(REST.sub("", span)) for span in spans if not INCOMPLETE.search(span)]
    return [line for block in blocks(page, "sh") for line in commands(block)] + whole


SHOWN = [(page, line) for page in PAGES for line in shown(page)]
# Pages that a reader follows with a text of his own, in the folder that the README speaks of.
FOLLOWED = ("README.md", "docs/tutorials/exact-world.md", "docs/tutorials/own-text.md",
            "docs/tutorials/paths-and-policies.md", "docs/tutorials/infill-and-correct.md",
            "docs/how-to/choose.md", "docs/how-to/compare.md",
            "docs/figures/README.md")  # fmt: skip
RUN_AS_THEY_STAND = ("README.md", *(page for page in PAGES if page.startswith("docs/tutorials/")),
                     "docs/how-to/extend.md", "docs/reference/python.md")  # fmt: skip
EVERY = (line for page in FOLLOWED for block in blocks(page, "sh") for line in commands(block))
MINE = [*dict.fromkeys(tuple(line) for line in EVERY)]
CHEAP = [line for line in MINE if shlex.join(line[:2]) not in TOO_LONG and line[1] != "train"]


class Parsed(BaseException):
    """Arguments were understood; nothing shall be done."""


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=lambda value: shlex.join([*value][:9])[-60:])
def test_every_command_of_the_documents_is_understood(page, line, monkeypatch):
    parse = tyro.cli

    def understood(*arguments, **settings):
        raise Parsed(parse(*arguments, **settings))

    monkeypatch.setattr(tyro, "cli", understood)
    with pytest.raises(Parsed):
        main(line[1:])


def test_every_document_is_checked():
    # An odd fence or span would be passed over in silence.
    assert len(SHOWN) > 30
    assert len(CHEAP) > 8
    assert len(blocks("README.md", "python")) >= 2
    for name in TOO_LONG:
        assert any(shlex.join(line[:2]) == name for line in MINE), f"{name} is not shown any more"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder like a reader's: the text, the lines and the run that the README speaks of."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "mytext.txt").write_text(TEXT * 60, encoding="utf-8")
    (folder / "lines.txt").write_text("the king is dead\nthe lazy dog\n", encoding="utf-8")
    (folder / "page.txt").write_text("tho lazy dog", encoding="utf-8")
    (folder / "pages.jsonl").write_text('{"read": "tho king", "right": "the king"}\n')
    (folder / "pages.tsv").write_text("scanned\tcorrected\nteh\tthe\n", encoding="utf-8")
    names = (f"{first}{second}" for first in "abcdefgh" for second in ("nna", "lice", "dam", "ry"))
    (folder / "names.txt").write_text("\n".join(names), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        for text in ("mytext.txt", "names.txt"):
            train = next(line for line in MINE if line[1] == "train" and text in line)
            main([*train[1:], *TINY])
    shutil.copytree(folder / "runs" / "mine", folder / "runs" / "shakespeare")
    return folder


@pytest.fixture
def at_place(place, monkeypatch):
    """Work where the README's reader does, and measure less."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("STOCHLOC_CACHE", str(place / "cache"))
    monkeypatch.setattr("stochloc.tasks.tune.KNOWN_SHARES", 2)
    monkeypatch.setattr("stochloc.tasks.tune.SNR_LEVELS", (0, 1, 4))
    monkeypatch.setattr("stochloc.tasks.tune.REPORTED_STEPS", (4,))


@pytest.mark.parametrize("number", range(len(CHEAP)), ids=lambda n: shlex.join(CHEAP[n])[:60])
def test_the_cheap_commands_of_the_pages_do_what_they_say(number, at_place, capsys):
    line = CHEAP[number]
    if "tuned" in line:
        main(["tune", "runs/mine", "--sequences", "1"])
    capsys.readouterr()
    main([*line[1:]])
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", [page for page in RUN_AS_THEY_STAND if blocks(page, "python")])
def test_the_python_of_a_page_runs_as_it_stands_block_after_block(page, at_place):
    names = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
