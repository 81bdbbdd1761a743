"""A walk that is watched and steered.

A walk follows from its request, edits included: it is the walk without edits up to the step of the
first; there the edit is applied to the state, and the policy starts anew on the steps that are
left, with the random stream that the number of the step names. So every state of a walk has an
address, and two edits of the same state meet the same noise.

Frame n is the state that n steps have led to, beside what the denoiser believes there, which it is
asked for anyway to take the next step. The last frame is the finished text.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from stochloc.app.bodies import Edit, WalkBody
from stochloc.app.events import Event
from stochloc.app.frames import bits_of, frame
from stochloc.app.kept import Kept, KeptStates
from stochloc.app.shelf import Served
from stochloc.app.starting import starting_tokens
from stochloc.core import (
    UNKNOWN,
    Denoiser,
    Guided,
    Posterior,
    State,
    Step,
    Streams,
    Tempered,
    Unconditional,
    rewind,
    start,
)
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.walks import Walk, WalkSettings, default_path, default_steps
from stochloc.training.seeds import seeded_streams


class Look(NamedTuple):
    """A state of a walk.

    Attributes:
        step: Steps so far.
        state: The state.
        posterior: What the denoiser believes there; None at the end.
        calls: Denoiser calls so far.
        bits: Bits so far.
    """

    step: int
    state: State
    posterior: Posterior | None
    calls: int
    bits: float


@dataclass(frozen=True, eq=False)
class SteeredWalk:
    """A walk of one text, ready to be taken.

    Attributes:
        served: The model.
        body: The request.
        given: The tokens given at the start, `-1` elsewhere, `(1, L)`.
        walk: How to walk.
        denoiser: The denoiser of the walk.
        kept: States of earlier walks.
    """

    served: Served
    body: WalkBody
    given: Int[Tensor, "1 length"]
    walk: Walk
    denoiser: Denoiser
    kept: KeptStates

    @classmethod
    def of(cls, served: Served, body: WalkBody, kept: KeptStates) -> "SteeredWalk":
        """Return the walk that a request describes.

        Args:
            served: The model.
            body: The request.
            kept: States of earlier walks.

        Returns:
            The walk.

        Raises:
            ValueError: A name or a number of the request makes no sense for the model.
        """
        run = served.run
        given, is_placed = starting_tokens(served, body.prompt, body.length, body.seed, body.label)
        given = given.to(run.device)
        length = given.shape[1]
        steps = default_steps(body.path, run, length) if body.steps is None else body.steps
        policy = PolicyChoice(
            body.policy, body.rounds, body.share, body.corrector_snr, body.corrector
        )
        walk = WalkSettings(
            body.path or default_path(steps, run, length), body.transition, steps, policy,
            body.temperature, body.guidance, body.top_p,
        ).resolve(run)  # fmt: skip
        is_given = given != UNKNOWN
        if body.guidance != 1 and body.label is None and not bool(is_given.any()):
            raise ValueError(
                "Guidance needs a condition: a prompt, or a label of a model trained with classes."
            )

        def of_label(label: str | None) -> Denoiser:
            plain = run.denoiser_for(length, label) if is_placed else run.denoiser(label)
            return Tempered(plain, body.temperature)

        denoiser = of_label(body.label)
        if body.guidance != 1:
            away = Unconditional(of_label(None), is_given)
            denoiser = Guided(denoiser, away, body.guidance)
        _check(body.edits, length)
        return cls(served, body, given, walk, denoiser, kept)

    def events(self) -> Iterator[Event]:
        """Yield what the client is told: the start, a frame for every state, and the end.

        Raises:
            ValueError: The policy cannot walk in so few steps, or an edit is not possible.
        """
        last, length = None, self.given.shape[1]
        for look in self._looks():
            if last is None:
                yield self._start(length)
            last = look
            if look.step > self.body.after:
                told = frame(look.state, look.posterior, self.served.texts)
                facts = {"step": look.step, "calls": look.calls, "bits": round(look.bits, 4)}
                yield Event("frame", {**facts, **told})
        assert last is not None
        text = self.served.run.tokenizer.decode(last.state.known[0].cpu())
        facts = {"text": text, "steps": last.step, "calls": last.calls, "bits": round(last.bits, 4)}
        yield Event("done", facts)

    def _start(self, length: int) -> Event:
        texts = self.served.texts
        places = [
            {"text": "" if token == UNKNOWN else texts[token], "known": token != UNKNOWN}
            for token in self.given[0].tolist()
        ]
        facts = {"model": self.served.name, "length": length, "steps": self.walk.num_steps}
        return Event("start", {**facts, "places": places})

    def _looks(self) -> Iterator[Look]:
        """Yield every state that is shown, from the last one that is still kept."""
        ordered = sorted(self.body.edits, key=lambda edit: edit.step)
        groups = [tuple(group) for _, group in groupby(ordered, key=lambda edit: edit.step)]
        first, at = self._resumed(groups)
        for number in range(first, len(groups) + 1):
            edits = groups[number] if number < len(groups) else ()
            for look in self._from(at, () if number == 0 else groups[number - 1]):
                self.kept.keep(self._key(groups[:number], look.step), _keep(look))
                at = look
                if edits and look.step == edits[0].step:
                    break
                yield look
            if edits:
                at = self._edited(at, edits)

    def _resumed(self, groups: list[tuple[Edit, ...]]) -> tuple[int, Look]:
        """Return how many groups of edits are done, and where the walk then is.

        That is the start, unless a state is kept and the client has all frames before it.
        """
        for number in reversed(range(len(groups))):
            step = groups[number][0].step
            kept = self.kept.find(self._key(groups[:number], step))
            if kept is not None and step <= self.body.after + 1:
                look = Look(step, kept.state, None, kept.calls, kept.bits)
                return number + 1, self._edited(look, groups[number])
        state = start(self.denoiser.codebook, 1, self.given.shape[1], self.given)
        return 0, Look(0, state, None, 0, 0.0)

    def _key(self, groups: list[tuple[Edit, ...]], step: int) -> tuple[str, WalkBody, int]:
        done = tuple(edit for group in groups for edit in group)
        return self.served.name, self.body.model_copy(update={"edits": done, "after": -1}), step

    def _from(self, at: Look, edits: tuple[Edit, ...]) -> Iterator[Look]:
        """Yield the states of a walk without further edits, the one it begins with included."""
        number, state, calls, bits = at.step, at.state, at.calls, at.bits
        for step in self._steps(at, len(edits)) if edits else self._unedited(state):
            calls += step.denoiser_calls
            yield Look(number, step.before, step.posterior, calls, bits)
            number, state, bits = number + 1, step.state, bits + bits_of(step)
        yield Look(number, state, None, calls, bits)

    def _unedited(self, state: State) -> Iterator[Step]:
        return self.walk.steps(self.denoiser, state, self._streams())

    def _steps(self, at: Look, num_edits: int) -> Iterator[Step]:
        """Return the steps after an edit: as many as were left, or as places may be open again.

        Where the walk is made of blocks these may be too few; then it takes as few as it can.
        """
        num_steps = self.walk.num_steps
        fewest = min(num_steps, max(1, self._left(at), num_edits))
        for number in range(fewest, num_steps + 1):
            walk = replace(self.walk, num_steps=number)
            steps = walk.steps(self.denoiser, at.state, self._streams(at.step))
            try:
                return chain([*islice(steps, 1)], steps)
            except ValueError:
                if number == num_steps:
                    raise
        raise AssertionError(fewest)

    def _left(self, at: Look) -> int:
        """Return how many steps are left; in proportion to unknown tokens if some were rounds'."""
        if not self.body.rounds:
            return self.walk.num_steps - at.step
        free = int((self.given == UNKNOWN).sum())
        unknown = int((~at.state.is_known).sum())
        return math.ceil(self.walk.num_steps * unknown / max(1, free))

    def _streams(self, *names: int) -> Streams:
        # Those of the first text of `generate`, and others for what comes after an edit.
        return seeded_streams(self.given.device, self.body.seed, [(0, *names)])

    def _edited(self, at: Look, edits: tuple[Edit, ...]) -> Look:
        if at.step != edits[0].step:
            raise ValueError(
                f"The walk ends after step {at.step}, so nothing can be changed after step "
                f"{edits[0].step}."
            )
        state, noise = at.state, self._streams(at.step, 1)
        for edit in edits:
            state = self._applied(state, edit, noise)
        return at._replace(state=state)

    def _applied(self, state: State, edit: Edit, noise: Streams) -> State:
        where = torch.zeros_like(state.is_known)
        where[:, edit.place] = True
        match edit.do:
            case "blank":
                return state.forget(where)
            case "fix":
                token = self.served.token_of(edit.token or "")
                opened = state.forget(where)
                return opened.reveal(torch.full_like(state.known, token), where)
            case "lower":
                target = torch.full_like(state.snr, edit.snr or 0.0).masked_fill(~where, torch.inf)
                return rewind(self.denoiser.codebook, state, target, noise)


def _keep(look: Look) -> Kept:
    return Kept(look.state, look.calls, look.bits)


def _check(edits: tuple[Edit, ...], length: int) -> None:
    """Refuse edits that no state of a text could be given."""
    for edit in edits:
        if edit.do == "fix" and edit.token is None:
            raise ValueError(f"The edit of place {edit.place} fixes a token; give the token.")
        if edit.do == "lower" and edit.snr is None:
            raise ValueError(f"The edit of place {edit.place} lowers the SNR; give the snr.")
        if edit.place >= length:
            raise ValueError(f"There is no place {edit.place}; the text has {length}, from 0.")
