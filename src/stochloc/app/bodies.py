"""The bodies of requests: the flags of the command line by name, with their bounds.

A bound that stands here is part of the OpenAPI description. Names of paths, policies and the like
are checked where they are looked up, with the sentence of the command line.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from stochloc.app.limits import LIMITS
from stochloc.tasks.paths import PATHS, TRANSITIONS
from stochloc.tasks.policies import CORRECTORS, POLICIES

# The sets of names as the description has them; tasks look them up, and say what is wrong.
_PATHS: JsonDict = {"enum": [*PATHS, "tuned", None]}
_TRANSITIONS: JsonDict = {"enum": [*TRANSITIONS]}
_CORRECTORS: JsonDict = {"enum": [*CORRECTORS]}
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
    str | None, Field(max_length=40, description="The path to follow.", json_schema_extra=_PATHS)
]
Policy = Annotated[
    str,
    Field(
        max_length=60,
        description="The policy that allocates SNR; a setting may follow, as in tolerance:0.1.",
        json_schema_extra={"pattern": f"^({'|'.join(POLICIES)})(:[0-9.]{{1,9}})?$"},
    ),
]
Transition = Annotated[
    str, Field(max_length=40, description="How steps are taken.", json_schema_extra=_TRANSITIONS)
]
Corrector = Annotated[
    str,
    Field(max_length=40, description="How rounds rewind tokens.", json_schema_extra=_CORRECTORS),
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


class SampleBody(Body):
    """Texts to draw; the flags of `stochloc sample`."""

    n: Annotated[int, Field(ge=1, le=LIMITS.texts, description="Number of texts.")] = 4
    length: Annotated[
        Annotated[int, Field(ge=1, le=LIMITS.length)]
        | Annotated[str, Field(pattern="^[0-9]{1,6}(-[0-9]{1,6})?$")]
        | None,
        Field(description="Tokens of a text; of a model of sequences also a range such as 5-12."),
    ] = None
    steps: Steps = None
    path: Path = None
    speculate: bool = False
    policy: Policy = "path"
    corrector_rounds: Rounds = 0
    corrector_share: Share = 0.1
    corrector_snr: Snr = 0.0
    corrector: Corrector = "exact"
    transition: Transition = "ancestral"
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    prompt: Text = ""
    label: Label = None
    guidance: Guidance = 1.0
    trace: Annotated[bool, Field(description="Whether to tell the SNR of every token.")] = False
    seed: Seed = 0


class ScoreBody(Body):
    """Texts to score; the flags of `stochloc score`."""

    text: Annotated[
        Text | Annotated[list[Text], Field(min_length=1, max_length=LIMITS.texts)],
        Field(description="A text, or several; each is what a line is to the command."),
    ]
    path: Path = None
    transition: Annotated[
        str | None, Field(max_length=40, json_schema_extra={"enum": [*TRANSITIONS, None]})
    ] = None
    steps: Steps = None
    continuous: bool = False
    draws: Annotated[int | None, Field(ge=1, le=LIMITS.draws)] = None
    label: Label = None
    seed: Seed = 0

    @property
    def texts(self) -> list[str]:
        """The texts; together they may be as long as one.

        Raises:
            ValueError: They are longer.
        """
        texts = [self.text] if isinstance(self.text, str) else self.text
        if sum(map(len, texts)) > LIMITS.characters:
            raise ValueError(
                f"text: several texts have at most {LIMITS.characters} characters together."
            )
        return texts


class InfillBody(Body):
    """A text with blanks; the flags of `stochloc infill`."""

    template: Annotated[
        Text,
        Field(description="The text: _ is a blank of one token, {3} of three, {2-5} of 2 to 5."),
    ]
    n: Annotated[int, Field(ge=1, le=LIMITS.draws, description="Most answers.")] = 5
    draws: Annotated[int, Field(ge=1, le=LIMITS.draws)] = 32
    constraint: Annotated[
        tuple[Annotated[str, Field(max_length=300)], ...], Field(max_length=LIMITS.edits)
    ] = ()
    blank: Annotated[str, Field(min_length=1, max_length=8)] = "_"
    steps: Steps = None
    path: Path = None
    policy: Policy = "path"
    all_different: bool = False
    transition: Transition = "ancestral"
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    label: Label = None
    seed: Seed = 0


class CorrectBody(Body):
    """A text to correct; the flags of `stochloc correct`, but those that name files."""

    text: Text
    snr: Snr | None = None
    confidences: Annotated[
        tuple[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)], ...] | None,
        Field(max_length=LIMITS.characters),
    ] = None
    threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    edits: bool = False
    one_pass: bool = False
    walk: bool = False
    steps: Annotated[int, Field(ge=1, le=LIMITS.steps)] = 32
    policy: Policy = "threshold:0.9"
    path: Path = None
    label: Label = None
    seed: Seed = 0
