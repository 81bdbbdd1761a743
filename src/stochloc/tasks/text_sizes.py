"""Whether the parts of a text are long enough for windows."""

from stochloc.data import Corpus


def check_windows(corpus: Corpus, train: int, valid: int, test: int = 0) -> None:
    """Refuse a corpus with a part that is too short.

    Args:
        corpus: The texts.
        train: Tokens of training text that are needed.
        valid: The same of validation text.
        test: The same of test text.

    Raises:
        ValueError: A part is too short.
    """
    sizes = (len(corpus.train),) if corpus.mixture is None else corpus.mixture.sizes
    held_out = {
        part: max(corpus.held_out[part].sizes) if part in corpus.held_out else size
        for part, size in (("valid", len(corpus.valid)), ("test", len(corpus.test)))
    }
    for name, size, needed in (
        # Windows are drawn from each text of a mixture, and held-out ones are of those there are.
        ("training", min(sizes), train),
        ("validation", held_out["valid"], valid),
        ("test", held_out["test"], test),
    ):
        if size < needed:
            raise ValueError(
                f"The {name} text has {size} tokens, but windows need {needed}: give a longer "
                "text, other --fractions or a smaller --length."
            )
