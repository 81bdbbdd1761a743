"""Work on a file record by record, from where an earlier start stopped, in bounded memory.

Records are read as a stream and worked on in batches that depend on the records alone, so that a
start after a kill makes the batches, and the results to the last bit, that an uninterrupted one
makes. What a record gives does not depend on its batch, save for rounding.
"""

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from stochloc.data.records import RecordSource
from stochloc.tasks.by_record.joining import check_same_count, join, joining_alone, part_of
from stochloc.tasks.by_record.progress import HowMuchIsRead, RecordProgress
from stochloc.tasks.by_record.results_file import (
    About,
    ResultsFile,
    count_results,
    is_complete,
)
from stochloc.tasks.by_record.share import Processes, Share
from stochloc.tasks.by_record.work import Numbered, RecordWork, batches, results_of
from stochloc.terminal import tell
from stochloc.training.interruption import Interruption


@dataclass(frozen=True)
class Done:
    """Work that is done.

    Attributes:
        out: The file of the results.
        records: How many it holds.
        errors: How many of them are errors.
        new: How many were added now.
        seconds: Time it took.
    """

    out: Path
    records: int
    errors: int
    new: int
    seconds: float

    def __str__(self) -> str:
        errors = f", {self.errors:,} of them with an error" if self.errors else ""
        return f"{self.out}: {self.records:,} record{'s' * (self.records != 1)}{errors}"


def work_through(
    work: RecordWork,
    source: RecordSource,
    out: Path,
    about: About,
    read: HowMuchIsRead,
    processes: Processes,
) -> Done | None:
    """Write the result of every record of a share to a file, after those that are there.

    Args:
        work: What to do with records.
        source: All records.
        out: The file of results, JSON Lines.
        about: What the results are of; its share says which records.
        read: How much of the file is read, for the display.
        processes: Which of several processes this is; each takes a share of the share.

    Returns:
        The work of all processes; None if others have yet to end.

    Raises:
        ValueError: The file of results holds something else or is in use, or the records cannot be
            read further.
    """
    shares = list(about.share.split(processes.count))
    abouts = [replace(about, share=share) for share in shares]
    own = part_of(out, processes.rank, processes.count)
    with ExitStack() as held:
        # No process may open its part while another one joins and removes them.
        with joining_alone(out) if processes.count > 1 else nullcontext():
            results = None
            if not is_complete(out, about):
                check_same_count(out, processes)
                results = held.enter_context(ResultsFile.opened(own, abouts[processes.rank]))
        if results is None:
            return _done(out, about) if processes.rank == 0 else None
        new, seconds = _work(work, source, results, shares[processes.rank], read)
    if processes.count > 1 and not join(out, abouts, about):
        return None
    return _done(out, about, new, seconds)


def _done(out: Path, about: About, new: int = 0, seconds: float = 0.0) -> Done:
    return Done(out, *count_results(out, about), new, seconds)


def _work(
    work: RecordWork, source: RecordSource, out: ResultsFile, share: Share, read: HowMuchIsRead
) -> tuple[int, float]:
    """Return how many results were added, and in what time."""
    before, end = out.num_lines, 0
    if before:
        tell(f"stochloc: {out.path} holds {before:,} records already; going on after them.")
    with RecordProgress(work.name, before, read) as progress, Interruption() as interruption:
        for batch in batches(_chosen(source, share), work.most_records, work.most_characters):
            begin, end = end, end + len(batch)
            if end > out.num_lines:
                with interruption.at_once():
                    results = results_of(work, batch)
                out.append(results[out.num_lines - begin :])
            interruption.check()
            progress.update(out.num_lines, out.num_errors)
        out.complete()
        return out.num_lines - before, progress.elapsed_s


def _chosen(source: RecordSource, share: Share) -> Iterator[Numbered]:
    rows = (Numbered(number, row) for number, row in enumerate(source.rows(), 1))
    return (numbered for numbered in rows if share.takes(numbered.number))
