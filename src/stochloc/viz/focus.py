"""Which methods of a comparison are in focus: drawn in colour, the others in grey."""

from collections.abc import Sequence

from stochloc.tasks.compare.contest import parse_methods
from stochloc.tasks.compare.table import Row

MOST = 6
# By default the best method of each group is in focus: ours, the paper's recipe, the
# autoregressive model, masked, uniform and continuous diffusion. The order fixes the colours, so
# that a group has the same colour in the figures of different texts.
GROUPS = (
    ("dsl", "dsl-encoder"),
    ("dsl-paper",),
    ("ar",),
    ("mdlm", "md4", "md4-cosine", "genmd4", "d3pm-absorbing", "sedd-absorbing"),
    ("d3pm-uniform", "multinomial", "sedd-uniform"),
    ("plaid", "latent-flow"),
)


def parse_focus(text: str | None) -> tuple[str, ...]:
    """Return the methods in a list of names.

    Args:
        text: Names of `methods.METHODS` separated by commas; None for the default.

    Returns:
        The names without repetitions; empty for the default.

    Raises:
        ValueError: There is no such method, or there are more than `MOST`.
    """
    names = () if text is None else parse_methods(text)
    if len(names) > MOST:
        raise ValueError(f"At most {MOST} methods can be in focus, not {len(names)}.")
    return names


def in_focus(rows: Sequence[Row], asked: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the methods that are drawn in colour.

    Args:
        rows: The rows of a comparison, lowest bits per character first.
        asked: The names that the user chose; empty for the default, which is the best method of
            each of `GROUPS`, and then the best of the other methods while there is room.

    Returns:
        Names of methods that have a row, at most `MOST`, in the order of their colours.
    """
    names = [row.method for row in rows]
    if asked:
        return tuple(name for name in asked if name in names)[:MOST]
    best = [next((name for name in names if name in group), None) for group in GROUPS]
    chosen = [name for name in best if name is not None]
    others = [name for name in names if name not in chosen]
    return tuple([*chosen, *others][:MOST])
