"""The methods of the paper's Table 1 in one frame, one file each; `METHODS` names them all."""

from collections.abc import Callable
from dataclasses import replace

from stochloc.core import Diffusion, Lomax
from stochloc.methods.any_order import AnyOrder
from stochloc.methods.argmax_flow import ArgmaxFlow
from stochloc.methods.autoregressive import Autoregressive
from stochloc.methods.d3pm import D3pm
from stochloc.methods.discrete_flow import DiscreteFlow
from stochloc.methods.generalized_md4 import GeneralizedMd4
from stochloc.methods.latent_flow import LatentFlow
from stochloc.methods.localization import Variant
from stochloc.methods.mac import Mac
from stochloc.methods.md4 import Md4
from stochloc.methods.mdlm import Mdlm, UnweightedMdlm
from stochloc.methods.method import Drawn, Frame, Method
from stochloc.methods.multinomial import MultinomialDiffusion
from stochloc.methods.plaid import Plaid
from stochloc.methods.sedd import Sedd, SeddAbsorbing
from stochloc.training.choices import OURS, PAPER, SEEING
from stochloc.training.snr import Endpoints, Masks, SentenceLogNormal, TokenLogNormal

METHODS: dict[str, Callable[[Frame], Method]] = {
    "ar": Autoregressive.from_frame,
    "ardm": AnyOrder.from_frame,
    "mac": Mac.from_frame,
    "mdlm": Mdlm.from_frame,
    "md4": Md4.from_frame,
    "md4-cosine": Md4.cosine,
    "genmd4": GeneralizedMd4.from_frame,
    "d3pm-absorbing": D3pm.absorbing,
    "sedd-absorbing": SeddAbsorbing.from_frame,
    "d3pm-uniform": D3pm.uniform,
    "multinomial": MultinomialDiffusion.from_frame,
    "sedd-uniform": Sedd.uniform,
    "plaid": Plaid.from_frame,
    "discrete-flow": DiscreteFlow.from_frame,
    "argmax-flow": ArgmaxFlow.from_frame,
    "latent-flow": LatentFlow.from_frame,
    "dsl-paper": Variant(PAPER, Diffusion(Lomax())).from_frame,
    "dsl": Variant(OURS).from_frame,
}

TABLE_1 = tuple(METHODS)
SHARED_SNR = Endpoints(SentenceLogNormal(TokenLogNormal.mean, TokenLogNormal.sigma))
# Ablations: our recipe with a network that looks at the token itself, and that one without one of
# its choices; masked diffusion with our loss weight, our prior or both.
METHODS |= {
    "mdlm-unweighted": UnweightedMdlm.from_frame,
    "mdlm-prior": Mdlm.with_prior,
    "mdlm-prior-unweighted": UnweightedMdlm.with_prior,
    "genmd4-prior": GeneralizedMd4.with_prior,
    "dsl-encoder": Variant(SEEING).from_frame,
    "dsl-learned-codes": Variant(replace(SEEING, code_dimension=PAPER.code_dimension)).from_frame,
    "dsl-no-evidence": Variant(replace(SEEING, evidence=False)).from_frame,
    "dsl-no-prior": Variant(replace(SEEING, unigram=False)).from_frame,
    "dsl-paper-beta": Variant(replace(SEEING, beta=PAPER.beta)).from_frame,
    "dsl-shared-snr": Variant(replace(SEEING, law=SHARED_SNR)).from_frame,
    "dsl-no-endpoints": Variant(replace(SEEING, law=TokenLogNormal())).from_frame,
    "dsl-masks-only": Variant(replace(SEEING, law=Masks())).from_frame,
}

__all__ = ["METHODS", "TABLE_1", "Drawn", "Frame", "Method"]
