"""The bodies of requests: the flags of the command line by name, with their bounds.

A bound that stands here is part of the OpenAPI description. Names of paths, policies and the like
are checked where they are looked up, with the sentence of the command line.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stochloc.app.limits import LIMITS
from stochloc.tasks.paths import PATHS, TRANSITIONS
from stochloc.tasks.policies import CORRECTORS, POLICIES

NAMES_OF_PATHS = (*PATHS, "tuned")
LARGEST_SEED = 2**63 - 1


Model = Annotated[
    str | None, Field(max_length=300, description="Name of the model; the first when absent.")
]
Text = Annotated[str, Field(max_length=LIMITS.characters)]
Token = Annotated[str, Field(max_length=64)]
Steps = Annotated[
    int | None, Field(ge=1, le=LIMITS.steps, description="Steps of the walk; as in sample.")
]
Length = Annotated[int | None, Field(ge=1, le=LIMITS.length, description="Tokens of the text.")]
Path = Annotated[
    str | None,
    Field(max_length=40, description="The path to follow.", examples=list(NAMES_OF_PATHS)),
]
Policy = Annotated[
    str,
    Field(
        max_length=40,
        description="The policy that allocates SNR; a setting may follow, as in tolerance:0.1.",
        examples=list(POLICIES),
    ),
]
Transition = Annotated[
    str,
    Field(max_length=40, description="How steps are taken.", examples=list(TRANSITIONS)),
]
Corrector = Annotated[
    str,
    Field(max_length=40, description="How rounds rewind tokens.", examples=list(CORRECTORS)),
]
Temperature = Annotated[
    float,
    Field(ge=0.01, le=100, allow_inf_nan=False, description="Below 1 sharper, above 1 flatter."),
]
TopP = Annotated[
    float,
    Field(gt=0, le=1, allow_inf_nan=False, description="Draw from the likeliest tokens alone."),
]
Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Snr = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED, description="Seed of all randomness.")]
Rounds = Annotated[
    int, Field(ge=0, le=LIMITS.rounds, description="Corrector rounds after every step.")
]
Label = Annotated[str | None, Field(max_length=300, description="Class of the text.")]


class Body(BaseModel):
    """A body in which no name is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Model = None


class Edit(BaseModel):
    """A change of the state of a walk.

    Attributes:
        step: After how many steps.
        place: Which token, from 0.
        do: To make it known, to take all evidence of it away, or to send it to a lower SNR.
        token: The token to make known.
        snr: The SNR to go down to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: Annotated[int, Field(ge=0, le=10**6)]
    place: Annotated[int, Field(ge=0, lt=LIMITS.length)]
    do: Literal["fix", "blank", "lower"]
    token: Token | None = None
    snr: Snr | None = None


class WalkBody(Body):
    """A walk, and how it is steered.

    Attributes:
        after: Send only the frames after this step; the client has those before.
    """

    prompt: Text = ""
    length: Length = None
    path: Path = None
    policy: Policy = "path"
    steps: Steps = None
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    guidance: Guidance = 1.0
    transition: Transition = "ancestral"
    corrector: Corrector = "exact"
    rounds: Rounds = 0
    share: Share = 0.1
    corrector_snr: Snr = 0.0
    seed: Seed = 0
    label: Label = None
    edits: Annotated[tuple[Edit, ...], Field(max_length=LIMITS.edits)] = ()
    after: Annotated[int, Field(ge=-1, le=10**6)] = -1
