"""The policies that commands know by name, with default settings.

A policy is chosen as `NAME` or `NAME:VALUE`, where the value is the most important setting:
`tolerance:0.1`, `threshold:0.95`, `curvature:0.3`. Corrector rounds can be added to any policy that
does not rewind tokens itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stochloc.core import (
    CERTAINTIES,
    AtRandom,
    Capped,
    Choice,
    Corrected,
    Curvature,
    Denoiser,
    FiniteDifference,
    Follow,
    JacobianProduct,
    LeastConfident,
    Linearised,
    Looped,
    OneByOne,
    Path,
    Policy,
    Redraw,
    Remasking,
    Rescaled,
    Reveal,
    RevealAbove,
    RevealApart,
    Share,
    Together,
    Tolerance,
)
from stochloc.names import policies_of

# What a policy makes of the path, the denoiser and its value; the value when none is given.
_Maker = tuple[Callable[[Path, Linearised, float], Policy], float | None]


def _by_certainty(name: str) -> dict[str, _Maker]:
    certainty = CERTAINTIES[name]()
    makers: tuple[_Maker, ...] = (
        (lambda _, __, ___: Reveal(certainty), None),
        (lambda _, __, ___: RevealApart(certainty), None),
        (lambda _, __, value: RevealAbove(value, certainty), 0.9),
        (lambda _, __, value: Share(certainty, sharpness=value), 1.0),
    )
    return dict(zip(policies_of(name), makers, strict=True))


# By name, but for "path" and those of a measure of certainty, which the table of measures names.
OTHER_POLICIES: dict[str, _Maker] = {
    "curvature": (lambda _, d, value: Curvature(JacobianProduct(d), value), 0.01),
    "curvature-difference": (lambda _, __, value: Curvature(FiniteDifference(), value), 0.01),
    "tolerance": (lambda _, __, value: Tolerance(value), 0.05),
    "remdm-cap": (lambda _, __, value: Remasking(Capped(value)), 0.04),
    "remdm-rescale": (lambda _, __, value: Remasking(Rescaled(value)), 0.04),
    "remdm-conf": (lambda _, __, value: Remasking(Rescaled(value), by_confidence=True), 1.0),
    "remdm-loop": (lambda _, __, value: Remasking(Looped(value)), 0.02),
}
_MAKERS: dict[str, _Maker] = {
    "path": (lambda path, _, __: Follow(path), None),
    **{key: made for name in CERTAINTIES for key, made in _by_certainty(name).items()},
    **OTHER_POLICIES,
}
POLICIES = tuple(_MAKERS)
# Name: which tokens are taken back, and how they come up again.
CORRECTORS: dict[str, tuple[Choice, Redraw]] = {
    "exact": (AtRandom(), OneByOne()),
    "together": (AtRandom(), Together()),
    "least-confident": (LeastConfident(), Together()),
}


@dataclass(frozen=True)
class PolicyChoice:
    """A policy by name, and correctors around it.

    Attributes:
        name: One of `POLICIES`, with `:VALUE` after it to change its setting; "path" follows the
            path of the walk, the others follow none.
        corrector_rounds: Rounds after every step that rewind tokens and raise them again; 0 for
            none.
        corrector_share: Share of the tokens rewound in a round.
        corrector_snr: γ to which they are rewound.
        corrector: One of `CORRECTORS`: "exact" rewinds tokens at random and raises them one by one,
            with one denoiser call each; "together" raises them in one call; "least-confident" does
            too, and rewinds those of least confidence. The last two sharpen the distribution of the
            texts.
    """

    name: str = "path"
    corrector_rounds: int = 0
    corrector_share: float = 0.1
    corrector_snr: float = 0.0
    corrector: str = "exact"

    @property
    def follows_path(self) -> bool:
        """Whether the walk follows a path."""
        return self.name.partition(":")[0] == "path"

    @property
    def takes_back(self) -> bool:
        """Whether tokens are rewound, so that a bound counts their cost again."""
        return self.corrector_rounds > 0 or self.name.startswith("remdm-")

    def check(self) -> None:
        """Refuse a name that is no policy's.

        Raises:
            ValueError: There is no such policy.
        """
        name = self.name.partition(":")[0]
        if name not in _MAKERS:
            raise ValueError(
                f"There is no policy {name!r}; the policies are {', '.join(POLICIES)}."
            )

    def apply(self, path: Path, denoiser: Denoiser) -> tuple[Policy, Denoiser]:
        """Return the policy, and the denoiser to walk with.

        Args:
            path: The path of the walk, ignored unless the policy follows it.
            denoiser: The denoiser of the walk.

        Returns:
            The policy and the denoiser, which stores its last call if the policy needs it.

        Raises:
            ValueError: There is no such policy or corrector, or a setting is out of range.
        """
        self.check()
        name, _, value = self.name.partition(":")
        make, default = _MAKERS[name]
        if self.corrector not in CORRECTORS:
            raise ValueError(
                f"There is no corrector {self.corrector!r}; the correctors are "
                f"{', '.join(CORRECTORS)}."
            )
        linearised = Linearised(denoiser)
        policy = make(path, linearised, self._setting(name, value, default))
        if self.corrector_rounds:
            policy = Corrected(
                policy,
                self.corrector_rounds,
                self.corrector_share,
                self.corrector_snr,
                *CORRECTORS[self.corrector],
            )
        return policy, linearised if name == "curvature" else denoiser

    def _setting(self, name: str, value: str, default: float | None) -> float:
        if not value:
            return 0.0 if default is None else default
        try:
            if default is not None:
                return float(value)
        except ValueError:
            pass
        raise ValueError(f"The policy {name!r} does not take the setting {value!r}.")


FOLLOW_THE_PATH = PolicyChoice()
