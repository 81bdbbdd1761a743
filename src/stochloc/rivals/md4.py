"""MD4: masked diffusion with a schedule (Shi et al. 2024, Simplified and generalized diffusion).

    -log P(x) <= ∫₀¹ -α'/(1-α) E[ Σ_masked -log Q_θ(x_i|x_t) ] dt

Their schedules differ in the variance of the training gradient and in what N steps of the sampler
reveal, not in the bound. Their text models may be told the time; ours is not, because the true law
of a masked token does not depend on it. Their sampler spaces its times by a cosine, ours evenly.
`generalized_md4` has the schedule that is learned.
"""

from stochloc.rivals.masked import MaskedDiffusion, masked_network
from stochloc.rivals.rival import Frame
from stochloc.rivals.schedules import Cosine


class Md4(MaskedDiffusion):
    """Masked diffusion along a schedule of one's choice."""

    @classmethod
    def cosine(cls, frame: Frame) -> "Md4":
        """Return the method with the cosine schedule, untrained.

        Args:
            frame: What all methods share.

        Returns:
            The method.
        """
        return cls(masked_network(frame), frame.vocabulary_size, Cosine())
