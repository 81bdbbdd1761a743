"""MD4: masked diffusion with a schedule (Shi et al. 2024, Simplified and generalized diffusion).

    -log P(x) <= ∫₀¹ -α'/(1-α) E[ Σ_masked -log Q_θ(x_i|x_t) ] dt

The choice of schedule changes the variance of the training gradient and the number of tokens that
each step of the sampler reveals, not the bound. `generalized_md4` has a learned schedule.

As in the authors' configuration of text8 (google-deepmind/md4, `configs/md4/text8.py`) the schedule
is linear, the network is conditioned on the time (`time_features = "t"`), and the sampler's times
are spaced by a cosine; with the cosine schedule they are evenly spaced, as in
`configs/md4/cifar10.py`. Their α runs from 1 - 1e-4 to 1e-4; here training times begin at 1e-4,
which gives the same maximal weight, and the bound covers all times, so there is no reconstruction
term. Our choice: the time enters by an added embedding; theirs modulates every layer
(`adaln_zero`).
"""

from stochloc.methods.masked import MaskedDiffusion, masked_network
from stochloc.methods.method import Frame
from stochloc.methods.schedules import Cosine, Linear, cosine_grid


class Md4(MaskedDiffusion):
    """Masked diffusion along a given schedule, with a network conditioned on the time."""

    is_timed = True
    earliest = 1e-4

    @classmethod
    def from_frame(cls, frame: Frame) -> "Md4":
        """Return the untrained method with the linear schedule and the cosine grid."""
        network = masked_network(frame, cls.is_timed)
        return cls(network, frame.vocabulary_size, Linear(), cosine_grid)

    @classmethod
    def cosine(cls, frame: Frame) -> "Md4":
        """Return the untrained method with the cosine schedule and the even grid."""
        return cls(masked_network(frame, cls.is_timed), frame.vocabulary_size, Cosine())
