"""The text a run was trained on, identified by its tokens wherever it is now.

A run stores the name of its text, its absolute path, and a SHA-256 of the tokens of each part.
Tasks that measure on the run's own parts get exactly those tokens or an error: never another text
that happens to have the same name.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stochloc.data import Corpus, Tokenizer
from stochloc.data.records import Reading
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.data.texts import (
    STANDARD_INPUT,
    TextSource,
    UnreadableTextError,
    file_source,
    is_read_once,
)
from stochloc.tasks.data_choice import DataChoice, Named, is_same_text, opened
from stochloc.tasks.origins import read_origin
from stochloc.tasks.runs import Run


class OtherTextError(ValueError):
    """The place of a run's text holds another text."""


def own_text(run: Run, data: str | None = None) -> Corpus:
    """Return the text that a run was trained on.

    Args:
        run: The run.
        data: Where the text is now, if the user gave it.

    Returns:
        The training, validation and test tokens that the run was trained with.

    Raises:
        ValueError: The text cannot be found, or has changed; the message names the places tried.
            Or the model is one of sequences.
    """
    _refuse_sequences(run)
    corpus = _own(run, data)
    assert isinstance(corpus, Corpus)
    return corpus


def own_sequences(run: Run, data: str | None = None) -> SequenceCorpus:
    """Return the sequences that a run was trained on, those longer than its window cut.

    Args:
        run: The run, of a model of sequences.
        data: Where the sequences are now, if the user gave it.

    Returns:
        The training, validation and test sequences that the run was trained with.

    Raises:
        ValueError: They cannot be found, or have changed; the message names the places tried.
    """
    return _sequences(_own(run, data), run)


def _own(run: Run, data: str | None) -> Corpus | SequenceCorpus:
    named = {} if data is None else {"data": data}
    return find_text(run.folder, run.data, run.tokenizer, opened(named))


def _refuse_sequences(run: Run) -> None:
    if run.lengths is not None:
        raise ValueError(
            f"The model in {run.folder} is one of sequences, of which this needs one long text: "
            "take a model that was trained without --sequences."
        )


def _sequences(corpus: Corpus | SequenceCorpus, run: Run) -> SequenceCorpus:
    assert isinstance(corpus, SequenceCorpus)
    assert run.lengths is not None
    return corpus.cut(run.lengths.longest)


@contextmanager
def in_files(choice: DataChoice) -> Iterator[DataChoice]:
    """Provide a choice whose texts other processes can read too: pipes are copied to files.

    Args:
        choice: Which text, and how it is split.

    Yields:
        The choice; the copies are deleted after the block.
    """
    texts = {name: text for name, text in choice.named().items() if is_read_once(text)}
    # A pipe with a field is JSON Lines, which the name of a file has to say.
    suffix = "" if choice.field is None else ".jsonl"
    with TemporaryDirectory() as folder:
        places = {name: str(Path(folder) / f"{name}{suffix}") for name in texts}
        for name, text in texts.items():
            with open(places[name], "wb") as file:
                file.writelines(file_source(text).chunks())
        yield choice.at(places)


def find_text(
    folder: Path, choice: DataChoice, tokenizer: Tokenizer, named: Named
) -> Corpus | SequenceCorpus:
    """Return the text of the run in a folder, looked for by its name and at its old path.

    Args:
        folder: The run's folder; for a run without a fingerprint the first text found is taken.
        choice: The name of the run's text, and how it is split.
        tokenizer: The run's.
        named: Where `data`, `valid` or `test` are now, if the user gave it.

    Returns:
        The text whose tokens are those of the run.

    Raises:
        OtherTextError: Only other texts were found; the message names them.
        ValueError: No text was found; the message names the places tried.
    """
    reasons: list[str] = []
    kind: type[ValueError] = ValueError
    for corpus, reason, is_other in _tries(folder, choice, tokenizer, named):
        if corpus is not None:
            return corpus
        reasons.append(reason)
        kind = OtherTextError if is_other else kind
    raise kind(
        f"The text that {folder} was trained on cannot be found ({'; '.join(reasons)}): restore "
        "it, or give its place with --data."
    )


def choose_text(run: Run, data: str, reading: Reading) -> tuple[Corpus, bool]:
    """Return a text that a user gives for a run, and whether it is the run's own.

    Args:
        run: The run.
        data: A file, a folder, a pipe, `-`, `hf:NAME` or the name of a corpus.
        reading: The field of it that is the text, if the user named one.

    Returns:
        The run's own parts if the tokens are those of the run, and True; otherwise the text cut by
        the usual fractions, and False.

    Raises:
        ValueError: The text cannot be read, or has characters the model has never seen. Or the
            model is one of sequences.
    """
    _refuse_sequences(run)
    corpus, is_own = _chosen(run, data, reading)
    assert isinstance(corpus, Corpus)
    return corpus, is_own


def choose_sequences(run: Run, data: str, reading: Reading) -> tuple[SequenceCorpus, bool]:
    """Return the sequences that a user gives for a run, and whether they are the run's own.

    Args:
        run: The run, of a model of sequences.
        data: A file of records, or a pipe.
        reading: The field of it that is the text, if the user named one.

    Returns:
        As `choose_text`; those longer than the run's window are cut.

    Raises:
        ValueError: The file cannot be read, or has characters the model has never seen.
    """
    corpus, is_own = _chosen(run, data, reading)
    return _sequences(corpus, run), is_own


def _chosen(run: Run, data: str, reading: Reading) -> tuple[Corpus | SequenceCorpus, bool]:
    named = opened({"data": data})
    own = run.data if reading == Reading() else run.data.read_by(reading)
    if read_origin(run.folder).fingerprint is not None or is_same_text(data, run.data.data):
        for corpus, *_ in _tries(run.folder, own, run.tokenizer, named):
            if corpus is not None:
                return corpus, True
    other = DataChoice(data, sequences=run.data.sequences).read_by(reading)
    corpus = other.load_from(named, run.tokenizer, leave_out=False)
    if corpus.tokenizer.vocabulary_size != run.tokenizer.vocabulary_size:
        raise ValueError(
            "The model was trained without classes; train one with --data NAME=FILE,NAME=FILE."
        )
    return corpus, False


def is_own_name(run: Run, data: str) -> bool:
    """Return whether a user gives the name or the path of a run's own text.

    Args:
        run: The run.
        data: What the user gave.

    Returns:
        Whether the run's text has this name or was at this path.
    """
    where = read_origin(run.folder).where
    return any(is_same_text(data, own.data) for own in (run.data, where) if own is not None)


def _tries(
    folder: Path, choice: DataChoice, tokenizer: Tokenizer, named: Named
) -> Iterator[tuple[Corpus | SequenceCorpus | None, str, bool]]:
    """Yield for every place the run's text, or why it is not there and whether another text is."""
    origin = read_origin(folder)
    places = [choice]
    # Another place is of use only for texts whose place the user has not given.
    is_asked = not choice.named().keys() <= named.keys()
    if is_asked and origin.where is not None and origin.where != choice.absolute():
        places.append(origin.where)
    for place in places:
        reason = f"{_called(named) or place.data} has changed or holds another text"
        try:
            kept = {name: text for name, text in place.named().items() if name not in named}
            _refuse_what_is_gone(kept)
            corpus = place.load_from({**kept, **named}, tokenizer)
        except UnreadableTextError as error:
            yield None, str(error).split(";")[0].rstrip("."), False
        except ValueError:
            yield None, reason, True  # It has characters that do not occur in the run's text.
        else:
            is_own = origin.fingerprint in (None, corpus.fingerprint())
            yield corpus if is_own else None, reason, True


def _called(named: Named) -> str:
    return ", ".join(t.name if isinstance(t, TextSource) else t for t in named.values())


def _refuse_what_is_gone(kept: Mapping[str, str]) -> None:
    # Nor may the recipe in a downloaded run make us wait for a pipe.
    for text in kept.values():
        if is_read_once(text):
            name = "standard input" if text == STANDARD_INPUT else text
            raise UnreadableTextError(f"it came from {name}, which is gone")
