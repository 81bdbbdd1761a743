"""Filling blanks as a constraint problem: tokens that share a coordinate must differ.

The coordinates of places (`nn.places`) already say what belongs together: the cells of a row, of
a column, of a box. Here each such group is a unit of `AllDifferent`, and the walk takes decisions
back that break it (`core.policies.backtracking`).
"""

from collections import defaultdict
from dataclasses import dataclass, field, fields

from stochloc.core import AllDifferent, Backtrack, Denoiser, Policy, Rule
from stochloc.nn import ModelConfig
from stochloc.tasks.walks import Walk


@dataclass(frozen=True)
class SolvingWalk(Walk):
    """A walk that decides the surest tokens first and takes back what breaks a rule.

    Attributes:
        rule: What answers must obey.
    """

    rule: Rule = field(kw_only=True)

    def apply(self, denoiser: Denoiser) -> tuple[Policy, Denoiser]:
        """Return the policy that obeys the rule, and the denoiser to walk with.

        Args:
            denoiser: The denoiser of the walk, already tempered and guided.

        Returns:
            The policy and the denoiser.
        """
        return Backtrack(self.rule), self._narrowed(denoiser)


def solving(walk: Walk, config: ModelConfig) -> SolvingWalk:
    """Return a walk on which tokens that share a coordinate come to differ.

    Args:
        walk: Gives the transition, the largest number of steps and the temperature; its path and
            its policy are not used.
        config: What the model is made of, its coordinates among it.

    Returns:
        The walk. One that runs out of steps ends with what it has, whether or not that is allowed.

    Raises:
        ValueError: No two places share a coordinate.
    """
    rule = AllDifferent(shared_coordinates(config), config.num_predicted)
    return SolvingWalk(**{f.name: getattr(walk, f.name) for f in fields(walk)}, rule=rule)


def shared_coordinates(config: ModelConfig) -> list[list[int]]:
    """Return the places of a text that have a coordinate in common.

    Args:
        config: What a model is made of.

    Returns:
        Groups of two places or more, counted from the first token of the text.

    Raises:
        ValueError: There are none.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, coordinates in enumerate(config.places):
        for number, value in enumerate(coordinates):
            groups[number, value].append(place)
    shared = [places for places in groups.values() if len(places) > 1]
    if not shared:
        raise ValueError(
            "No two places of this model share a coordinate, so none must differ: --all-different "
            "is for a model trained with --positions, such as grid:9x9:3x3."
        )
    return shared
