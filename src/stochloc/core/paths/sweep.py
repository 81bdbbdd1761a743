"""Reading left to right at many places at once: between one call and one token a call.

Count the free tokens from left to right, r = 0, 1, .... A walk of N steps decides those of

    turn(r) = r mod N

together: a comb with teeth N apart moves over the text, one place a step, until its teeth have met.
No division into N groups has its tokens further apart (`core.paths.spread`, whose groups these are,
in another order). What differs is what a step knows: a token's neighbour to the left from the
second step on, then two of them, up to N - 1, where spread groups know places all around, further
away. With N = 1 all tokens are decided at once, with N = L one after another from left to right.

For the true posterior of a first-order Markov chain both orders lose the same, the dependence among
the first N-th of the tokens. A network's conditionals differ from the true ones, and where those
from left to right are its best, a walk that asks for little else comes closer to the text than any
walk in random order, however many calls that has.

Nothing is drawn, so that `-log P` of a text under the walk is exact. Counting free tokens only lets
the comb move over the blanks of an infilling.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from stochloc.core.paths.base import (
    Free,
    Grid,
    Path,
    Point,
    Steps,
    reveal_in_turns,
    turns_taken,
)
from stochloc.core.paths.orders import Autoregressive
from stochloc.core.streams import Randomness


@dataclass(frozen=True)
class Sweep(Path):
    """Tokens go from 0 to ∞ in N groups, each of every Nth token, from left to right.

    A walk of N steps decides tokens N apart at once; the line integral decides one at a time, from
    left to right.
    """

    @property
    def snr_end(self) -> float:
        """All tokens end known."""
        return math.inf

    @property
    def unmasks_by_rule(self) -> bool:
        """The order is given."""
        return True

    def draw(self, num_steps: int | Steps, free: Free, generator: Randomness) -> Grid:
        """Return a grid that reveals, at step n, the tokens n places behind every Nth."""
        steps = turns_taken(num_steps, free)
        return reveal_in_turns((free.long().cumsum(-1) - 1) % steps, steps, free)

    def at(self, time: Float[Tensor, " batch"], free: Free, generator: Randomness) -> Point:
        """Return the path of N = L, from left to right."""
        return Autoregressive().at(time, free, generator)
