"""Parts of a model whose weights stay as they are in training.

A part is named as in the model's state dictionary: `codebook`, `embeddings`, `head`, or
`transformer` with all that is in it, or `transformer.blocks.0` alone.
"""

from collections.abc import Sequence

from torch import nn


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Take parts of a model out of training: their weights receive no gradient.

    Args:
        model: The model, which is changed.
        parts: Names of parameters or of modules with parameters.

    Raises:
        ValueError: A part has no weights, or no more than single numbers are left to train.
    """
    named = dict(model.named_parameters())
    for part in parts:
        chosen = [own for name, own in named.items() if f"{name}.".startswith(f"{part}.")]
        if not chosen:
            outer = ", ".join(dict.fromkeys(name.partition(".")[0] for name in named))
            raise ValueError(
                f"This model has no part {part[:80]!r} with weights to freeze; those it has are "
                f"{outer}, and what is in them."
            )
        for parameter in chosen:
            parameter.requires_grad_(False)
    # Of optimizers of nothing but single numbers torch cannot restore the state.
    if not any(own.requires_grad and own.ndim for own in named.values()):
        raise ValueError(
            "Every part of the model with more than one number is frozen: leave one to train."
        )
