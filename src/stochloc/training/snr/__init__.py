"""Which signal-to-noise ratios to train on, one distribution a file; one joins by a line in `LAWS`.

The best denoiser is the same at every γ, but a network learns it where it is shown data. Each
distribution here is a small value that draws a γ for every token of a batch. Draws are stratified
over the batch, so that every batch covers the distribution evenly and the loss is less noisy.

The paper draws one log-normal γ for a sentence (B.1, C.2). Paths other than diffusion need tokens
at different γ side by side, and both endpoints: a γ of its own for every token, with a share of the
tokens moved to 0 or ∞, trains all of them at once.
"""

from dataclasses import fields
from typing import Any, cast

from stochloc.nn.declared import check_types
from stochloc.training.snr.endpoints import Endpoints
from stochloc.training.snr.independent_sides import IndependentSides
from stochloc.training.snr.law import SidedSnrLaw, Sides, Snr, SnrLaw, draw_sides, stratified
from stochloc.training.snr.left_to_right import LeftToRight
from stochloc.training.snr.log_normal import SentenceLogNormal, TokenLogNormal
from stochloc.training.snr.masks import Masks
from stochloc.training.snr.mixture import Mixture

LAWS: tuple[type[SnrLaw] | type[SidedSnrLaw], ...] = (
    SentenceLogNormal,
    TokenLogNormal,
    Endpoints,
    Masks,
    Mixture,
    LeftToRight,
    IndependentSides,
)


def law_to_dict(law: SnrLaw | SidedSnrLaw) -> dict[str, Any]:
    """Return a distribution as JSON values: its class name and its attributes.

    Args:
        law: One of `LAWS`, its attributes numbers, texts, other distributions or tuples of these.

    Returns:
        A dictionary that `law_from_dict` turns back.
    """
    values = {f.name: getattr(law, f.name) for f in fields(cast(Any, law))}
    return {"law": type(law).__name__, **{k: _to_json(v) for k, v in values.items()}}


def law_from_dict(values: dict[str, Any]) -> SnrLaw | SidedSnrLaw:
    """Return the distribution that `law_to_dict` described.

    Args:
        values: The class name under "law" and the attributes.

    Returns:
        The distribution.

    Raises:
        ValueError: There is no such distribution, or an attribute is of another type than declared.
    """
    known: dict[str, Any] = {law.__name__: law for law in LAWS}
    if not isinstance(values, dict) or values.get("law") not in known:
        raise ValueError(
            f"Unknown distribution of γ {str(values)[:200]}; known are {', '.join(known)}."
        )
    law = known[values["law"]](**{k: _from_json(v) for k, v in values.items() if k != "law"})
    check_types(law)
    return law


def _to_json(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, tuple):
        return [_to_json(element) for element in value]
    return law_to_dict(value) if isinstance(value, LAWS) else value


def _from_json(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return tuple(_from_json(element) for element in value)
    return law_from_dict(value) if isinstance(value, dict) else value


__all__ = [
    "LAWS",
    "Endpoints",
    "IndependentSides",
    "LeftToRight",
    "Masks",
    "Mixture",
    "SentenceLogNormal",
    "SidedSnrLaw",
    "Sides",
    "Snr",
    "SnrLaw",
    "TokenLogNormal",
    "draw_sides",
    "law_from_dict",
    "law_to_dict",
    "stratified",
]
