"""The text a run was trained on, known by its tokens wherever it lies now.

A run keeps what its text was called, where it was absolutely, and a SHA-256 of the tokens of each
part. Whatever measures on the run's own parts asks here and gets those tokens or a refusal: never
another text that happens to have the name.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from stochloc.data import Corpus, Tokenizer, load_corpus
from stochloc.data.texts import (
    STANDARD_INPUT,
    TextSource,
    UnreadableTextError,
    file_source,
    is_read_once,
)
from stochloc.tasks.data_choice import DataChoice, Named, is_same_text, opened
from stochloc.tasks.runs import Run, read_origin


class OtherTextError(ValueError):
    """Where a run's text was sought lies another one."""


def own_text(run: Run, data: str | None = None) -> Corpus:
    """Return the text that a run was trained on.

    Args:
        run: The run.
        data: Where the text is now, if the user says so.

    Returns:
        Its training, validation and test tokens, those the run was trained with.

    Raises:
        ValueError: The text cannot be had, or has changed; the message names where it was sought.
    """
    named = {} if data is None else {"data": data}
    return find_text(run.folder, run.data, run.tokenizer, opened(named))


@contextmanager
def in_files(choice: DataChoice) -> Iterator[DataChoice]:
    """Offer a choice whose texts other processes can read too: pipes are copied to files.

    Args:
        choice: Which text, and how it is split.

    Yields:
        The choice; its copies are gone after the block.
    """
    texts = {name: text for name, text in choice.named().items() if is_read_once(text)}
    with TemporaryDirectory() as folder:
        for name, text in texts.items():
            with (Path(folder) / name).open("wb") as file:
                file.writelines(file_source(text).chunks())
        yield replace(choice, **{name: str(Path(folder) / name) for name in texts})


def find_text(folder: Path, choice: DataChoice, tokenizer: Tokenizer, named: Named) -> Corpus:
    """Return the text of the run in a folder, sought where it was called so and where it was.

    Args:
        folder: The run's folder; a run that kept no fingerprint takes the first text there is.
        choice: What the run calls its text, and how it is split.
        tokenizer: The run's.
        named: What the user says about where `data`, `valid` or `test` are now.

    Returns:
        The text whose tokens are those of the run.

    Raises:
        OtherTextError: There are only other texts; the message names them.
        ValueError: There is no text at all; the message names where it was sought.
    """
    reasons: list[str] = []
    kind: type[ValueError] = ValueError
    for corpus, reason, is_other in _tries(folder, choice, tokenizer, named):
        if corpus is not None:
            return corpus
        reasons.append(reason)
        kind = OtherTextError if is_other else kind
    raise kind(
        f"The text that {folder} was trained on cannot be had ({'; '.join(reasons)}): restore it, "
        "or say with --data where it is."
    )


def choose_text(run: Run, data: str) -> tuple[Corpus, bool]:
    """Return a text that a user names for a run, and whether it is the run's own.

    Args:
        run: The run.
        data: A file, a pipe, `-` or the name of a corpus.

    Returns:
        The run's own parts if the tokens are those of the run, and True; otherwise the text cut by
        the usual fractions, and False.

    Raises:
        ValueError: The text cannot be had, or has characters the model has never seen.
    """
    named = opened({"data": data})
    if read_origin(run.folder).fingerprint is not None or is_same_text(data, run.data.data):
        for corpus, *_ in _tries(run.folder, run.data, run.tokenizer, named):
            if corpus is not None:
                return corpus, True
    corpus = load_corpus(named["data"], run.tokenizer)
    if corpus.tokenizer.vocabulary_size != run.tokenizer.vocabulary_size:
        raise ValueError(
            "The model was trained without classes; train one with --data NAME=FILE,NAME=FILE."
        )
    return corpus, False


def is_own_name(run: Run, data: str) -> bool:
    """Return whether a user names a text by the name or the place of a run's own.

    Args:
        run: The run.
        data: What the user gave.

    Returns:
        Whether the run's text was called so, or was there.
    """
    where = read_origin(run.folder).where
    return any(is_same_text(data, own.data) for own in (run.data, where) if own is not None)


def _tries(
    folder: Path, choice: DataChoice, tokenizer: Tokenizer, named: Named
) -> Iterator[tuple[Corpus | None, str, bool]]:
    """Yield the run's text, or why a place lacks it and whether it holds another, for each."""
    origin = read_origin(folder)
    places = [choice]
    # Another place helps only with what the user has not named.
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
            yield None, reason, True  # It has characters that the run's text has not.
        else:
            is_own = origin.fingerprint in (None, corpus.fingerprint())
            yield corpus if is_own else None, reason, True


def _called(named: Named) -> str:
    return ", ".join(t.name if isinstance(t, TextSource) else t for t in named.values())


def _refuse_what_is_gone(kept: Mapping[str, str]) -> None:
    # A stranger's recipe must not make us wait for a pipe, either.
    for text in kept.values():
        if is_read_once(text):
            name = "standard input" if text == STANDARD_INPUT else text
            raise UnreadableTextError(f"it came from {name}, which is gone")
