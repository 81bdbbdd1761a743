"""What the command line answers, over HTTP: the same calls, the same JSON.

Each answer is a few events, of which the last, `done`, is the JSON object of the command; the
others come earlier, for clients that ask for a stream.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from stochloc.app.bodies import CorrectBody, InfillBody, SampleBody, ScoreBody
from stochloc.app.events import Event
from stochloc.app.shelf import Served
from stochloc.tasks.correct.chosen import CorrectionChoice
from stochloc.tasks.correct.correct import correct
from stochloc.tasks.correct.doubts import doubts
from stochloc.tasks.generate import check_request, draw_batch
from stochloc.tasks.generate_sequences import draw_length, parse_lengths, that_hold
from stochloc.tasks.generation import Generation
from stochloc.tasks.infill.chosen import chosen_walk
from stochloc.tasks.infill.fill import Infilling, infill
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.tasks.score import chosen_scoring, score
from stochloc.tasks.scored import remarks
from stochloc.tasks.walks import Walk, WalkSettings, path_and_steps

# Tokens of the texts that are drawn together, so that the first come soon.
TOKENS_TOGETHER = 1024


def sample_events(served: Served, body: SampleBody) -> Iterator[Event]:
    """Yield texts as they are drawn, then what `stochloc sample --json` prints.

    Args:
        served: The model.
        body: The request.

    Yields:
        `sample` events with some texts and the number of the first, then `done`.

    Raises:
        ValueError: As the command does.
    """
    run = served.run
    lengths = _lengths(served, body)
    check_request(body.n, max(lengths), body.seed)
    drawn = list[Generation]()
    for length, same in groupby(range(body.n), key=lambda text: lengths[text]):
        texts, walk = list(same), _sampling(run, body, length)
        size = max(1, TOKENS_TOGETHER // length)
        for begin in range(0, len(texts), size):
            some = texts[begin : begin + size]
            part = draw_batch(
                run, some, length, walk, body.prompt, body.seed, None, body.label
            )  # fmt: skip
            drawn.append(part)
            yield Event("sample", {"first": some[0], "samples": part.samples})
    yield Event("done", Generation.join(drawn).to_dict(body.trace))


def score_events(served: Served, body: ScoreBody) -> Iterator[Event]:
    """Yield what `stochloc score --tokens --json` prints; tokens have bits as well, and remarks.

    Args:
        served: The model.
        body: The request.

    Yields:
        `done`.

    Raises:
        ValueError: As the command does.
    """
    run = served.run
    scoring = chosen_scoring(
        run, body.path, body.transition, body.steps, body.draws, body.continuous, body.seed,
        body.label,
    )  # fmt: skip
    scored = score(run, body.texts, scoring)
    values = scored.to_dict(with_tokens=True)
    for line in values["lines"]:
        for token in line["tokens"]:
            token["bits"] = token["nats"] / math.log(2)
    yield Event("done", {**values, "remarks": remarks(scored)})


def infill_events(served: Served, body: InfillBody) -> Iterator[Event]:
    """Yield what `stochloc infill --json` prints, and remarks.

    Args:
        served: The model.
        body: The request.

    Yields:
        `done`.

    Raises:
        ValueError: As the command does.
    """
    run, said = served.run, list[str]()
    walk = chosen_walk(
        run, body.path, body.steps, body.policy, body.transition, body.temperature, body.top_p,
        body.all_different,
    )  # fmt: skip
    infilling = Infilling(body.n, body.draws, walk, seed=body.seed, label=body.label)
    filled = infill(run, body.template, infilling, body.constraint, body.blank, said.append)
    notes = [line.removeprefix("stochloc: ") for line in said if line.startswith("stochloc: ")]
    yield Event("done", {"template": body.template, **asdict(filled), "remarks": notes})


def correct_events(served: Served, body: CorrectBody) -> Iterator[Event]:
    """Yield what `stochloc correct --json` prints, and the probability of every place.

    Args:
        served: The model.
        body: The request.

    Yields:
        `places` with every place of the text, then `done`, which holds them too.

    Raises:
        ValueError: As the command does.
    """
    run = served.run
    choice = CorrectionChoice(
        body.edits, body.one_pass, body.walk, body.snr, body.threshold, None, body.steps,
        body.policy, body.path, body.seed, body.label,
    )  # fmt: skip
    decoder, snr, _ = choice.resolve(run, lambda line: None)
    assert snr is not None, "there are no examples"
    places = _places(run, body.text, snr, body.label)
    yield Event("places", {"places": places})
    corrected = correct(run, body.text, decoder, snr, body.confidences, body.label)
    yield Event("done", {**corrected.to_dict(), "places": places})


def _lengths(served: Served, body: SampleBody) -> list[int]:
    """Return the length of every text."""
    run = served.run
    first, last = (None, None) if body.length is None else parse_lengths(str(body.length))
    if (lengths := run.lengths_given(body.label)) is not None:
        possible = lengths.within(first or 1, min(last or served.longest, served.longest))
        possible = that_hold(body.prompt, possible, run)
        return [draw_length(possible, body.seed, text) for text in range(body.n)]
    if first != last:
        raise ValueError(
            "A range of lengths is for models of sequences; give one number of tokens, not "
            f"{body.length}."
        )
    length = min(run.text_length, served.longest) if first is None else first
    if length > served.longest:
        raise ValueError(f"length is at most {served.longest}, not {length}.")
    return [length] * body.n


def _sampling(run: Run, body: SampleBody, length: int) -> Walk:
    policy = PolicyChoice(
        body.policy, body.corrector_rounds, body.corrector_share, body.corrector_snr, body.corrector
    )
    named = body.path or ("autoregressive" if body.speculate else None)
    path, steps = path_and_steps(named, body.steps, run, length)
    return WalkSettings(
        path, body.transition, steps, policy, body.temperature, body.guidance, body.top_p,
        body.speculate,
    ).resolve(run)  # fmt: skip


def _places(run: Run, text: str, snr: float, label: str | None) -> list[dict[str, Any]]:
    """Return every place of a text; of a model of sequences, those of its lines in turn."""
    snr = min(snr, 1e6)
    parts = [text] if run.lengths is None else text.split("\n")
    begin, places = 0, list[dict[str, Any]]()
    for part in parts:
        for doubt in doubts(run, part, snr, label) if part else ():
            facts = asdict(doubt)
            places.append({**facts, "position": begin + doubt.position})
        begin += len(part) + 1
    return places
