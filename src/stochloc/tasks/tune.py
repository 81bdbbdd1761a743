"""Tuning a path to a model: measure what steps cost, then find the best ones for any number.

The measured costs are stored beside the model, one file for each transition, so that
`--path tuned --steps N` works for every N at once.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from stochloc.core import Codebook, Denoiser, Posterior, State, StepCosts, measure_step_costs
from stochloc.data.sequences import Rows
from stochloc.tasks.batches import rows_at_once
from stochloc.tasks.counting import given_in, tokens_in
from stochloc.tasks.own_text import own_sequences, own_text
from stochloc.tasks.paths import named_transition
from stochloc.tasks.runs import Run
from stochloc.tasks.tuned import ORDER, PATH_SHARES, keep_costs
from stochloc.tasks.windows import sequences_for, windows_for
from stochloc.training.seeds import seeded_streams

KNOWN_SHARES = 16
SNR_LEVELS = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 15)
REPORTED_STEPS = (2, 4, 8, 16, 32, 64)
REPORTS = 8


def tune(
    run: Run,
    transition: str,
    num_sequences: int,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
    data: str | None = None,
) -> dict[str, Any]:
    """Measure step costs on validation text, or sequences, and store them with the model.

    Args:
        run: The model; the costs are stored in its folder.
        transition: Name of the transition whose steps are measured.
        num_sequences: Windows of validation text, or whole sequences, at least 1.
        seed: Seed of the order of the tokens and of the noise.
        say: Called now and then with a line about the progress.
        data: Where the run's text is now, if it has moved.

    Returns:
        JSON values: the best paths for some numbers of steps, with their bits per token on the text
        that was measured, and the denoiser calls, 288 for every batch of rows of equal length.

    Raises:
        ValueError: The text the run was trained on cannot be found, or has changed, or there are no
            validation sequences.
    """
    step = named_transition(transition)
    denoiser, groups = _measured(run, data, num_sequences)
    known = torch.arange(KNOWN_SHARES, dtype=torch.float64) / KNOWN_SHARES
    snr = torch.tensor(SNR_LEVELS, dtype=torch.float64)
    batches = [batch for group in groups for batch in _batches(group, run)]
    model = _Reporting(denoiser, len(known) * len(snr) * len(batches), say)
    parts: list[StepCosts] = []
    for batch in batches:
        rows = batch.tokens.to(run.device)
        streams = seeded_streams(run.device, seed, ((n,) for n in batch.numbers.tolist()))
        given = given_in(run.tokenizer, rows)
        parts.append(measure_step_costs(model, rows, step, known, snr, streams, given, ORDER))
    # Costs are per token, of which rows of different length have different numbers.
    sizes = [int(tokens_in(run.tokenizer, batch.tokens).sum()) for batch in batches]
    costs = StepCosts.average(parts, sizes)
    keep_costs(costs, run, transition)
    costs = costs.refined(PATH_SHARES)
    paths = [(steps, costs.best_path(steps, ORDER)) for steps in REPORTED_STEPS]
    return {
        "transition": transition,
        "sequences": sum(len(batch.numbers) for batch in batches),
        "denoiser_calls": model.calls,
        "paths": [
            {
                "steps": steps,
                "bits_per_token": costs.cost(path) / math.log(2),
                "known": list(path.known),
                "snr": list(path.snr),
            }
            for steps, path in paths
        ],
    }


def _measured(run: Run, data: str | None, limit: int) -> tuple[Denoiser, list[Rows]]:
    """Return who is to be asked, and rows of validation text, those of one value of one length."""
    if run.lengths is None:
        corpus = own_text(run, data)
        mixture = corpus.held_out.get("valid")
        cut = windows_for(run, corpus.valid, limit, mixture=mixture)
        return cut.denoiser, [Rows(torch.arange(len(cut.tokens)), cut.tokens)]
    asked = sequences_for(run, own_sequences(run, data).valid)
    if limit < 1 or not len(asked.sequences):
        raise ValueError(
            "Paths are tuned on at least one validation sequence: train with more of them, or ask "
            "for at least one with --sequences."
        )
    return asked.denoiser, list(asked.sequences.spaced(limit).by_length())


def _batches(rows: Rows, run: Run) -> Iterator[Rows]:
    size = rows_at_once(rows.tokens.shape[1], run.tokenizer.vocabulary_size)
    pairs = zip(rows.numbers.split(size), rows.tokens.split(size), strict=True)
    return (Rows(numbers, tokens) for numbers, tokens in pairs)


class _Reporting:
    """A denoiser that reports now and then how many of its calls are done."""

    def __init__(self, denoiser: Denoiser, num_calls: int, say: Callable[[str], None]) -> None:
        self.denoiser, self.num_calls, self.say, self.calls = denoiser, num_calls, say, 0

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the wrapped denoiser's posterior; one call."""
        posterior = self.denoiser(state)
        self.calls += 1
        if self.calls % max(1, self.num_calls // REPORTS) == 0:
            self.say(f"{self.calls} of {self.num_calls} steps measured")
        return posterior
