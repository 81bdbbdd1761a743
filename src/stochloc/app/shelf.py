"""The models that are served: each a run, its name, and what the page is told about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from stochloc.app.limits import LIMITS
from stochloc.core import between, start
from stochloc.data.labels import first_given
from stochloc.tasks.paths import PATHS, TRANSITIONS
from stochloc.tasks.policies import CORRECTORS, POLICIES
from stochloc.tasks.runs import Run
from stochloc.tasks.tuned import path_for


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is served.

    Attributes:
        name: What requests call it.
        run: The model and its tokenizer.
        texts: The text of every token.
        tokens: The tokens that can be predicted, by their texts.
    """

    name: str
    run: Run
    texts: tuple[str, ...] = field(init=False)
    tokens: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        decode, tokenizer = self.run.tokenizer.decode, self.run.tokenizer
        texts = tuple(decode([token]) for token in range(tokenizer.vocabulary_size))
        predicted = texts[: first_given(tokenizer)]
        object.__setattr__(self, "texts", texts)
        # The first of several tokens with the same text.
        object.__setattr__(
            self, "tokens", {text: n for n, text in reversed([*enumerate(predicted)])}
        )

    @property
    def longest(self) -> int:
        """The most tokens of a text that may be asked for."""
        if self.run.lengths is None:
            return LIMITS.length
        return min(LIMITS.length, self.run.text_length)

    def token_of(self, text: str) -> int:
        """Return the token with a text.

        Args:
            text: The text of one token.

        Returns:
            The token.

        Raises:
            ValueError: No token has this text.
        """
        if text in self.tokens:
            return self.tokens[text]
        try:
            ids = self.run.tokenizer.encode(text)
        except ValueError:
            ids = ()
        if len(ids) != 1:
            raise ValueError(f"{text!r} is not a single token of the model; give one that is.")
        return int(ids[0])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the page is told of it, as JSON values."""
        run = self.run
        return {
            "name": self.name,
            "length": run.text_length,
            "longest": self.longest,
            "is_sequences": run.lengths is not None,
            "vocabulary_size": run.tokenizer.vocabulary_size,
            "character_level": all(len(text) <= 1 for text in self.tokens),
            "labels": list(run.tokenizer.labels),
            "paths": [*PATHS, *(["tuned"] if self._is_tuned() else [])],
            "policies": list(POLICIES),
            "transitions": list(TRANSITIONS),
            "correctors": list(CORRECTORS),
            "left_to_right": between(run.model) is not None,
        }

    def _is_tuned(self) -> bool:
        try:
            path_for(self.run, "tuned", next(iter(TRANSITIONS)), max(1, self.run.text_length))
        except ValueError:
            return False
        return True


@dataclass(frozen=True, eq=False)
class Shelf:
    """All models that are served.

    Attributes:
        models: By name, the default one first.
    """

    models: dict[str, Served]

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Shelf":
        """Return the models under different names: those of their folders, numbered if alike.

        Args:
            runs: The models, at least one.

        Returns:
            The shelf.
        """
        models: dict[str, Served] = {}
        for run in runs:
            plain = name = run.folder.resolve().name or "run"
            number = 2
            while name in models:
                name, number = f"{plain}-{number}", number + 1
            models[name] = Served(name, run)
        return cls(models)

    def find(self, name: str | None) -> Served:
        """Return a model.

        Args:
            name: Its name; the first where absent.

        Returns:
            The model.

        Raises:
            ValueError: There is none of this name.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ValueError(f"There is no model {name!r}; the models are {self._names()}.")
        return self.models[name]

    def warm_up(self) -> None:
        """Call every model once, so that the first request need not wait for what is made then."""
        for served in self.models.values():
            _ = served.facts
            codebook, length = served.run.model.codebook, min(8, served.run.text_length)
            with torch.no_grad():
                served.run.denoiser()(start(codebook, 1, length))

    def to_dict(self) -> dict[str, Any]:
        """Return what the page is told, as JSON values."""
        models = [served.facts for served in self.models.values()]
        return {"models": models, "limits": LIMITS.to_dict()}

    def _names(self) -> str:
        return ", ".join(self.models)
