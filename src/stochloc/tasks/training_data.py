"""What a run trains on: windows of one text, of texts of several classes, or sequences."""

from stochloc.data import Corpus, count_tokens, draw_windows, held_out_windows
from stochloc.data.frames import frame_of
from stochloc.data.labels import LabelledTexts, first_label
from stochloc.data.sequence_corpora import SequenceCorpus
from stochloc.nn import LocalizationModel
from stochloc.tasks.counting import what_is_counted
from stochloc.tasks.generate import sample_line
from stochloc.tasks.sequence_training import sequence_texts
from stochloc.tasks.text_sizes import check_windows
from stochloc.training.recipes import Recipe
from stochloc.training.texts import ClassTexts, Texts, TrainingData

PREVIEW_TOKENS = 128


def training_data(corpus: Corpus | SequenceCorpus, recipe: Recipe) -> TrainingData:
    """Return what a run trains on and is measured on.

    Args:
        corpus: The texts or sequences.
        recipe: How it is trained.

    Returns:
        The data.

    Raises:
        ValueError: A text is too short for a window, or a window for a sequence.
    """
    if isinstance(corpus, SequenceCorpus):
        return sequence_texts(corpus, recipe)
    length, tokenizer = recipe.training.length, corpus.tokenizer
    slots = tokenizer.slots
    needed = length if slots is None else slots.tokens_for(length)
    check_windows(corpus, train=needed, valid=length)
    preview = min(length - len(frame_of(tokenizer)), PREVIEW_TOKENS)

    def say(model: LocalizationModel) -> str:
        return sample_line(model, tokenizer, preview, recipe.training.seed)

    counted = what_is_counted(tokenizer)
    if tokenizer.labels:
        train, valid = (LabelledTexts.of(part, tokenizer) for part in (corpus.train, corpus.valid))
        train.check(tokenizer, length)
        first, bytes_of = first_label(tokenizer), tokenizer.decode_bytes
        return ClassTexts(train, valid, first, say, counted, bytes_of)
    draw, count = draw_windows if slots is None else slots.draw_windows, count_tokens
    if corpus.mixture is not None:
        draw, count = corpus.mixture.draw_windows, corpus.mixture.count
    cut = corpus.held_out["valid"].held_out if "valid" in corpus.held_out else held_out_windows
    bytes_of = tokenizer.decode_bytes
    return Texts(corpus.train, corpus.valid, say, draw, counted, count, bytes_of, cut)
