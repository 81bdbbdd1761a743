"""What the commands share that work on a file record by record: `score`, `correct` and `infill`."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from stochloc.cli.options import ReadingOptions, optional
from stochloc.cli.output import print_json

if TYPE_CHECKING:
    from stochloc.tasks.by_record import Done, RecordWork, Share
    from stochloc.tasks.runs import Run

ShareOption = Annotated[
    str | None,
    optional(
        "I/N",
        "Work on the I-th of N shares alone, every N-th record from the I-th on, as in 3/8; the "
        "results of all shares in turn are those of the whole.",
    ),
]
# Attributes of commands on which no result depends, or which are told in other words.
_NO_SETTINGS = ("run_folder", "file", "text", "template", "out", "shard", "json", "data")


@runtime_checkable
class OnRecords(Protocol):
    """A command that works on the records of a file."""

    of_file: ReadingOptions
    out: Path | None
    shard: str | None
    json: bool


def share_of(command: OnRecords) -> "Share":
    """Return the share of the records that was asked for, after a look at the file for results.

    Args:
        command: The command; it has a file for results.

    Returns:
        The share; the whole when absent.

    Raises:
        ValueError: The share makes no sense, or the file cannot take results.
    """
    from stochloc.tasks.by_record import Share
    from stochloc.tasks.by_record.results_file import check_name

    assert command.out is not None
    check_name(command.out)
    return Share() if command.shard is None else Share.parse(command.shard)


def work_on_file(
    command: OnRecords,
    file: str,
    run: "Run",
    work: "RecordWork",
    resolved: Mapping[str, Any] | None = None,
) -> None:
    """Work on every record of a file and print how many there were.

    Args:
        command: The command; its simple attributes are the settings that results depend on.
        file: Where the records come from.
        run: The model.
        work: What to do with a record.
        resolved: Settings that the command itself does not tell.

    Raises:
        ValueError: The file cannot be read, its results are those of something else, or nothing
            could be done with any record.
    """
    from dataclasses import replace

    from stochloc.data.reading import stream_lines
    from stochloc.data.texts import is_read_once
    from stochloc.tasks.by_record import work_through
    from stochloc.tasks.by_record.model import model_checksums
    from stochloc.tasks.by_record.progress import HowMuchIsRead
    from stochloc.tasks.by_record.results_file import About
    from stochloc.tasks.by_record.share import Processes
    from stochloc.tasks.walks import WalkSettings

    share, processes, read = share_of(command), Processes.of(), HowMuchIsRead()
    if processes.count > 1 and is_read_once(file):
        raise ValueError("A pipe has one reader; give the path of a file to several processes.")
    values = vars(command)
    simple = {
        name: value
        for name, value in values.items()
        if not (name in _NO_SETTINGS or is_dataclass(value))
    }
    is_tuned = values.get("path") == "tuned"
    transition = values.get("transition") or WalkSettings.transition
    source = stream_lines(file, run.tokenizer, replace(command.of_file.reading(), watch=read.watch))
    about = About(
        command=work.name,
        model=model_checksums(run, transition if is_tuned else None),
        text=source.fingerprint,
        settings={**simple, **(resolved or {})},
        share=share,
    )
    assert command.out is not None
    done = work_through(work, source, command.out, about, read, processes)
    if done is not None:
        _report(done, command.json)


def _report(done: "Done", as_json: bool) -> None:
    if done.records and done.records == done.errors:
        raise ValueError(f"Every record has an error; {done.out} says why.")
    if as_json:
        print_json({**vars(done), "out": str(done.out)})
    else:
        print(done)
