"""The work that grows with the vocabulary, behind four functions.

Read as attention, a token's evidence `z Eᵀ` scores the vocabulary's codes as keys. The *converter*
(paper eq. 6) attends to them and returns the mean of learned embeddings; the *posterior* adds what
the context says and returns probabilities, of which the mean code, the cross-entropy and the cost
of an ancestral step are further reductions over the vocabulary. Callers pass embeddings, codes and
states and never see a `(B, L, V)` tensor but in the posterior, so each function may be replaced by
one that runs over the vocabulary in blocks.

For independent tokens the exact posterior is `softmax(z Eᵀ + log p_unigram)` (paper A.1), so with
`β = 1` and the unigram prior the converter hands the network the best guess from the token's own
evidence: the average token at `γ = 0`, a soft mask, and an ordinary embedding at `γ = ∞`.

Where products are taken in half precision (`torch.autocast`, or weights of that type), those with
learned matrices are: the converter's with W and the head's. Evidence grows with γ and is exact, so
it, the scores, the logits and what is computed from them stay in the type of `z`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core import Codebook, DensePosterior


def convert(
    z: Float[Tensor, "batch length dim"],
    known: Int[Tensor, "batch length"],
    codebook: Codebook,
    embeddings: Float[Tensor, "slots width"],
    beta: Float[Tensor, ""],
    log_prior: Float[Tensor, " vocabulary"],
    slot: Float[Tensor, " 1"] | None,
) -> Float[Tensor, "batch length width"]:
    """Return the embedding of every noisy token, `softmax(β z Eᵀ + log prior) W` (paper eq. 6).

    Args:
        z: Noisy codes.
        known: The token where it is known, `-1` elsewhere; a known token gets its own row of W.
        codebook: The token codes E.
        embeddings: The rows of W, one for each token, and a last one for the mask slot if any.
        beta: Inverse temperature β.
        log_prior: Log-probabilities added to the scores; zeros for the paper's converter.
        slot: Score of the mask slot, which takes the weight where the evidence is weak.

    Returns:
        Embeddings of the width of W, not constrained to the sphere.
    """
    scores = beta * _evidence(codebook, z) + log_prior
    if slot is not None:
        scores = torch.cat([scores, slot.expand(*scores.shape[:-1], 1)], dim=-1)
    is_token = known[..., None] == torch.arange(scores.shape[-1], device=known.device)
    scores = scores.masked_fill(~is_token & (known[..., None] >= 0), -torch.inf)
    # The sum over the transformer's blocks starts here and stays in the type of the weights.
    return (scores.softmax(-1).to(embeddings.dtype) @ embeddings).to(embeddings.dtype)


def logits(
    hidden: Float[Tensor, "batch length width"],
    z: Float[Tensor, "batch length dim"],
    codebook: Codebook,
    head: Float[Tensor, "vocabulary width"],
    log_prior: Float[Tensor, " vocabulary"],
    evidence: bool,
) -> Float[Tensor, "batch length vocabulary"]:
    """Return unnormalised log-probabilities: context, prior, and the token's own evidence.

    Args:
        hidden: The transformer's output.
        z: Noisy codes.
        codebook: The token codes.
        head: Output weights; their product with `hidden` is what the context says.
        log_prior: Log-probabilities added; zeros for none.
        evidence: Whether to add `z Eᵀ`, which is exact: `P(x_i|z) ∝ exp(z_i·x_i) P(x_i|z_-i)`.

    Returns:
        Logits, in the type of `z`.
    """
    context = F.linear(hidden, head.to(hidden.dtype)).to(z.dtype) + log_prior
    return context + _evidence(codebook, z) if evidence else context


def posterior(
    unnormalised: Float[Tensor, "batch length vocabulary"],
    known: Int[Tensor, "batch length"],
    codebook: Codebook,
) -> DensePosterior:
    """Return the posterior of every token, certain where the token is known.

    Args:
        unnormalised: Logits.
        known: The token where it is known, `-1` elsewhere.
        codebook: The token codes.

    Returns:
        The posterior, whose methods give mean, entropy, cross-entropy and ancestral cost.
    """
    return DensePosterior.from_logits(unnormalised, known, codebook)


def cross_entropy(
    unnormalised: Float[Tensor, "batch length vocabulary"],
    known: Int[Tensor, "batch length"],
    tokens: Int[Tensor, "batch length"],
) -> Float[Tensor, "batch length"]:
    """Return `-log Q(x_i|z)` of every token.

    Args:
        unnormalised: Logits.
        known: The token where it is known, `-1` elsewhere.
        tokens: The true tokens.

    Returns:
        Nats; 0 where the token is known.
    """
    targets = tokens.masked_fill(known >= 0, -100)
    return F.cross_entropy(unnormalised.transpose(1, 2), targets, reduction="none")


def _evidence(
    codebook: Codebook, z: Float[Tensor, "batch length dim"]
) -> Float[Tensor, "batch length vocabulary"]:
    with torch.autocast(z.device.type, enabled=False):
        return codebook.evidence(z)
