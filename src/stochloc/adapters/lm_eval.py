"""A run as a model of the Language Model Evaluation Harness, `lm_eval --model stochloc`.

The harness asks for `log P(continuation | context)`, for that of whole texts, and for texts that go
on until a stop word (`adapters.continuations` says what the first two are). It finds models by
name in a table that no other package can enter before its program runs, so `adapters.harness`
starts it. A program of one's own imports this module and names the model `stochloc`.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from stochloc.adapters.continuations import Cost, Piece, Tokens, are_greedy, costs, pieces
from stochloc.adapters.wanted import Wanted
from stochloc.core import UNKNOWN, Autoregressive, Tempered, start
from stochloc.data.normalisation import normalise
from stochloc.nn.declared import check_types
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.hardware import available_accelerator
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import Run, open_run
from stochloc.tasks.score import default_scoring
from stochloc.tasks.walks import WalkSettings, default_steps
from stochloc.terminal import tell
from stochloc.training.seeds import seeded_streams
from stochloc.version import __version__


@dataclass(frozen=True)
class Settings:
    """What `--model_args` may say beside `run`.

    Attributes:
        checkpoint: "best" or "last", which weights of the run; "" for the choice of `open_run`.
        path: Name of the path of likelihoods and texts; "" for from left to right where that takes
            a two-sided model one call, else for masked.
        policy: Policy of texts; "path" follows the path.
        transition: How walks take their steps.
        steps: Steps of a walk; 0 for as many as `eval` takes along the path.
        draws: Walks that a bound is the average of.
        seed: Seed of all randomness.
        label: Class of all texts, for a model trained with classes; "" leaves it open.
        left_context: Tokens shown to the left of every window but the first of a text longer than
            the model's window; -1 for half a window, 0 for none, as `score` has it.
    """

    checkpoint: str = ""
    path: str = ""
    policy: str = "path"
    transition: str = "ancestral"
    steps: int = 0
    draws: int = 4
    seed: int = 0
    label: str = ""
    left_context: int = -1

    def __post_init__(self) -> None:
        check_types(self)
        if self.checkpoint not in ("", "best", "last"):
            raise ValueError(f"The checkpoint is best or last, not {self.checkpoint[:40]!r}.")
        if min(self.steps, self.seed) < 0 or self.draws < 1 or self.left_context < -1:
            raise ValueError(
                "Steps and seed are at least 0, draws at least 1, left_context at least -1; not "
                f"{self.steps}, {self.seed}, {self.draws} and {self.left_context}."
            )

    def walk(self, run: Run) -> WalkSettings:
        """Return how to walk, along a path.

        Args:
            run: The model.

        Returns:
            The walk of likelihoods.
        """
        if not self.path and not self.steps:
            return default_scoring(run).walk
        path = self.path or default_scoring(run).walk.path
        steps = self.steps or default_steps(path, run, run.text_length)
        return WalkSettings(path, self.transition, steps)


@register_model("stochloc")
class StochlocLM(LM):
    """A run of stochloc as a model of the harness.

    Args:
        run: Folder of the run, or its name on the Hugging Face hub.
        device: Where to compute; None, and a CUDA device where there is none, for the best there
            is.
        batch_size: Not looked at: batches are as large as memory allows.
        max_batch_size: Not looked at.
        settings: Attributes of `Settings`.

    Raises:
        ValueError: There is no such run, it is one of sequences, or a setting is unknown or out of
            range.
    """

    def __init__(
        self,
        run: str,
        device: str | None = None,
        batch_size: object = None,
        max_batch_size: object = None,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        super().__init__()
        known = [field.name for field in fields(Settings)]
        for name in settings:
            if name not in known:
                raise ValueError(
                    f"There is no model argument {name[:40]!r}; those there are: run, "
                    f"{', '.join(known)}."
                )
        self.settings = Settings(**settings)
        # The harness says cuda where nobody has said anything.
        is_here = device is not None and (torch.cuda.is_available() or "cuda" not in device)
        where = device if device is not None and is_here else available_accelerator("auto")
        asked = self.settings.checkpoint
        checkpoint = asked if asked in ("best", "last") else None
        self.name, self.run = run, open_run(run, where, checkpoint)
        if self.run.lengths is not None:
            raise ValueError(
                f"{run} is a model of whole sequences, whose beginnings have no probability of "
                "their own: score them with stochloc score."
            )
        window, left = self.run.text_length, self.settings.left_context
        if left >= window:
            raise ValueError(f"The model has a window of {window}: left_context must be smaller.")
        self.left_context = window // 2 if left < 0 else left
        self.walk = self.settings.walk(self.run).resolve(self.run)
        # From left to right nothing is drawn.
        self.is_exact = isinstance(self.walk.path, Autoregressive)
        self.label = self.settings.label or None
        self.errors: dict[str, list[float]] = {}

    @property
    def tokenizer_name(self) -> str:
        """Name under which the harness keeps requests."""
        return f"stochloc {self.run.tokenizer.to_dict()['kind']}"

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness writes beside its results: how figures came about, and errors."""
        return {
            "stochloc": __version__,
            "stochloc_run": self.name,
            "stochloc_settings": {**asdict(self.settings), "left_context": self.left_context},
            "stochloc_is_exact": self.is_exact,
            "stochloc_nats_stderr": {
                kind: {"median": statistics.median(errors), "largest": max(errors)}
                for kind, errors in self.errors.items()
            },
        }

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return `log P(continuation | context)`, and whether greedy decoding would give it.

        Args:
            requests: With `args` of a context, which may be empty, and a continuation.

        Returns:
            Nats, exact from left to right, else minus a bound, and for every request whether each
            token is the most likely one after those before it.
        """
        texts = [self._pieces(*self._split(*request.args)) for request in requests]
        found = self._costs(texts, "loglikelihood")
        greedy = are_greedy(self.run, texts, self.label)
        answers = [(-cost.nats, is_likely) for cost, is_likely in zip(found, greedy, strict=True)]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Return `log P` of whole texts, window by window.

        Args:
            requests: With `args` of a text.

        Returns:
            Nats, exact from left to right, else minus a bound. A text no longer than the model's
            window has the cost that `tasks.score` gives.
        """
        texts = [self._pieces((), self._tokens(request.args[0])) for request in requests]
        answers = [-cost.nats for cost in self._costs(texts, "loglikelihood_rolling")]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
        return answers

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return what follows contexts, up to the first stop word.

        The walk starts with the context known and decides all new tokens, along the path or by the
        policy of the settings. The most likely tokens are taken unless a task says `do_sample`.

        Args:
            requests: With `args` of a context and of `until`, `max_gen_toks`, `do_sample`,
                `temperature` and `top_p`.

        Returns:
            The texts without contexts and stop words.
        """
        asked = [self._wanted(*request.args) for request in requests]
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, wanted in enumerate(asked):
            groups[wanted.kind].append(number)
        answers = [""] * len(requests)
        for numbers in groups.values():
            first = asked[numbers[0]]
            size = rows_at_once(first.length, self.run.tokenizer.vocabulary_size)
            for begin in range(0, len(numbers), size):
                chosen = numbers[begin : begin + size]
                for number, text in zip(
                    chosen, self._draw([asked[n] for n in chosen]), strict=True
                ):
                    answers[number] = asked[number].cut(text)
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, answer)
        return answers

    def _wanted(self, context: str, told: dict[str, Any]) -> Wanted:
        return Wanted.of(self._tokens(context), told, self.run.text_length)

    def _draw(self, wanted: Sequence[Wanted]) -> list[str]:
        """Return the new text of contexts of equal length."""
        run, first = self.run, wanted[0]
        known = torch.full((len(wanted), first.length), UNKNOWN, device=run.device)
        for row, one in zip(known, wanted, strict=True):
            row[: len(one.context)] = torch.tensor(one.context, device=run.device)
        settings = self.settings.walk(run)
        walk = WalkSettings(
            settings.path, settings.transition, settings.num_steps,
            PolicyChoice(self.settings.policy), first.temperature, top_p=first.top_p,
        ).resolve(run)  # fmt: skip
        denoiser = Tempered(run.denoiser(self.label), first.temperature)
        names = ((len(one.context), *one.context) for one in wanted)
        streams = seeded_streams(run.device, self.settings.seed, names)
        state = start(run.model.codebook, len(wanted), first.length, known)
        drawn = walk.draw(denoiser, state, streams).tokens[:, len(first.context) :]
        return [run.tokenizer.decode(row) for row in drawn.cpu()]

    def _costs(self, texts: Sequence[Sequence[Piece]], kind: str) -> list[Cost]:
        draws = 1 if self.is_exact else self.settings.draws
        found = costs(self.run, self.walk, texts, draws, self.settings.seed, self.label)
        if not self.is_exact and found:
            errors = [cost.stderr for cost in found]
            self.errors[kind] = [error for error in errors if not math.isnan(error)] or [math.inf]
            tell(
                f"stochloc: {kind}: bounds, averages of {draws} draws, each with a standard error "
                f"of {statistics.median(errors):.3f} nats in the median and {max(errors):.3f} at "
                "most."
            )
        return found

    def _pieces(self, context: Tokens, scored: Tokens) -> list[Piece]:
        return pieces(context, scored, self.run.text_length, self.left_context)

    def _split(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Return the tokens of a context and those that the continuation adds to them.

        Subwords may join the spaces at the end of a context to the word behind them; such spaces
        count as the continuation's, as the harness has it.
        """
        whole = self._tokens(context + continuation)
        for kept in (context, context.rstrip()):
            before = self._tokens(kept)
            if whole[: len(before)] == before:
                return before, whole[len(before) :]
        alike = [one == other for one, other in zip(before, whole, strict=False)]
        place = alike.index(False) if False in alike else len(alike)
        return whole[:place], whole[place:]

    def _tokens(self, text: str) -> Tokens:
        seen = normalise(text, self.run.tokenizer)
        return tuple(map(int, self.run.tokenizer.encode(seen.known_only())))
