"""Walks over HTTP: they are the library's, every state of one is its request, edits do as told."""

import math

import pytest
import torch
from app.asking import here

from stochloc.app.kept import Kept, KeptStates
from stochloc.core import State, start
from stochloc.nn import LocalizationModel
from stochloc.tasks.generate import generate
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import open_run
from stochloc.tasks.score import score
from stochloc.tasks.walks import WalkSettings

WALKS = (
    {"path": "spread", "steps": 3}, {"path": "sweep", "steps": 3}, {"path": "autoregressive"},
    {"path": "diffusion", "rounds": 1, "corrector": "together"},
    *(
        pytest.param(how, marks=pytest.mark.slow)
        for how in (
            {"path": "masked"}, {"path": "diffusion"}, {"path": "hybrid", "transition": "euler"},
            {"policy": "entropy"}, {"policy": "curvature"}, {"policy": "remdm-cap"},
            {"policy": "tolerance:0.2"},
        )
    ),
)  # fmt: skip
STEERED = {
    "prompt": "the", "length": 12, "steps": 8, "seed": 3, "path": "diffusion", "policy": "path",
    "edits": [
        {"step": 2, "place": 5, "do": "fix", "token": "z"},
        {"step": 5, "place": 7, "do": "lower", "snr": 0.01},
        {"step": 5, "place": 0, "do": "blank"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


@pytest.fixture(scope="module")
def server(run):
    with here(run) as server:
        yield server


def frames(events):
    return [data for name, data in events if name == "frame"]


@pytest.mark.bulk
@pytest.mark.parametrize("how", WALKS, ids=str)
def test_a_walk_ends_with_the_text_that_sample_draws_from_the_same_seed(server, run, how):
    events = server.events("/api/walk", {"length": 10, "steps": 6, "seed": 5, "prompt": "a", **how})
    policy = PolicyChoice(
        how.get("policy", "path"), how.get("rounds", 0), corrector=how.get("corrector", "exact")
    )
    settings = WalkSettings(
        how.get("path", "masked"), how.get("transition", "ancestral"), how.get("steps", 6), policy
    )
    # Watched: reading draws the same, and counts calls of a place.
    drawn = generate(run, 1, 10, settings.resolve(run), "a", 5, lambda _: None)
    name, done = events[-1]
    assert name == "done"
    assert done["text"] == drawn.samples[0]
    assert done["calls"] == drawn.denoiser_calls
    told = frames(events)
    assert [frame["step"] for frame in told] == list(range(done["steps"] + 1))
    assert told[-1]["tokens"] == list(done["text"])
    assert all(told[-1]["known"])
    assert told[0]["known"] == [True] + [False] * 9


def test_the_frames_show_states_and_the_denoisers_own_probabilities_there(server, run):
    body = {"prompt": "th_ q", "steps": 1, "path": "masked"}
    begin, frame, *_ = server.events("/api/walk", body)
    assert begin[1]["places"][2] == {"text": "", "known": False}
    assert begin[1]["places"][0] == {"text": "t", "known": True}
    answer = frame[1]
    tokens = run.tokenizer.encode("thx q")
    known = torch.from_numpy(tokens)[None].clone()
    known[0, 2] = -1
    with torch.no_grad():
        posterior = run.denoiser_for(5)(start(run.model.codebook, 1, 5, known))
    probs = posterior.log_probs_of(0, run.tokenizer.vocabulary_size)[0, 2].exp()
    best = probs.topk(5)
    texts = [run.tokenizer.decode([int(token)]) for token in best.indices]
    assert [text for text, _ in answer["top"][2]] == texts
    assert [p for _, p in answer["top"][2]] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert answer["snr"] == [None, None, 0, None, None]
    assert answer["tokens"][2] == texts[0]
    assert answer["p"][0] == 1


def test_bits_of_a_walk_that_unmasks_are_the_chain_rule_of_its_text(server, run):
    body = {"length": run.text_length, "path": "autoregressive", "seed": 1}
    done = server.events("/api/walk", body)[-1][1]
    scored = score(run, done["text"])
    assert scored.is_exact
    assert done["bits"] == pytest.approx(scored.nats / math.log(2), rel=1e-4)


def test_bits_of_finite_steps_are_at_most_what_tokens_can_still_tell(server, run):
    body = {"length": 8, "path": "diffusion", "steps": 4}
    *_, before, last = frames(server.events("/api/walk", body))
    most = 8 * math.log2(run.tokenizer.vocabulary_size)
    assert 0 < before["bits"] <= 3 * most
    assert last["bits"] > before["bits"]


@pytest.mark.bulk
def test_the_same_request_gives_the_same_events(server, run):
    first = server.events("/api/walk", STEERED)
    assert server.events("/api/walk", STEERED) == first
    with here(run) as other:
        assert other.events("/api/walk", STEERED) == first


@pytest.mark.bulk
def test_a_walk_is_as_without_edits_up_to_the_first(server):
    plain = frames(server.events("/api/walk", {**STEERED, "edits": []}))
    steered = frames(server.events("/api/walk", STEERED))
    assert steered[:2] == plain[:2]
    assert steered[2] != plain[2]
    assert [frame["step"] for frame in steered] == list(range(len(steered)))


@pytest.mark.bulk
def test_frames_after_a_step_are_the_same_whether_the_state_was_kept_or_not(server, run):
    with here(run) as other:
        whole = other.events("/api/walk", STEERED)
    server.events("/api/walk", {**STEERED, "edits": STEERED["edits"][:1]})
    for after in (0, 1, 4, 5):
        rest = server.events("/api/walk", {**STEERED, "after": after})
        assert frames(rest) == [frame for frame in frames(whole) if frame["step"] > after]
        assert rest[-1] == whole[-1]


@pytest.mark.bulk
def test_a_kept_state_spares_the_calls_before_it(run, monkeypatch):
    calls, readout = [], LocalizationModel._readout

    def counted(*asked):
        calls.append(1)
        return readout(*asked)

    monkeypatch.setattr(LocalizationModel, "_readout", counted)
    with here(run) as server:
        server.events("/api/walk", {**STEERED, "edits": []})
        whole = len(calls)
        server.events("/api/walk", {**STEERED, "edits": STEERED["edits"][:1], "after": 1})
        assert len(calls) - whole == whole - 2


def test_an_edit_does_what_it_says_and_nothing_else(server):
    plain = frames(server.events("/api/walk", {**STEERED, "edits": []}))
    steered = frames(server.events("/api/walk", STEERED))
    fixed, lowered = steered[2], steered[5]
    assert fixed["known"][5]
    assert fixed["tokens"][5] == "z"
    assert fixed["snr"][:5] + fixed["snr"][6:] == plain[2]["snr"][:5] + plain[2]["snr"][6:]
    assert lowered["snr"][7] == 0.01
    assert lowered["snr"][0] == 0
    assert not lowered["known"][0]
    assert steered[-1]["tokens"][5] == "z"


@pytest.mark.bulk
def test_a_finished_text_is_opened_again_and_walked_to_its_end(server):
    body = {"length": 8, "steps": 4, "seed": 2}
    done = server.events("/api/walk", body)[-1][1]
    edits = [{"step": done["steps"], "place": place, "do": "blank"} for place in (1, 2, 6)]
    events = server.events("/api/walk", {**body, "edits": edits})
    again, text = events[-1][1], list(done["text"])
    assert again["steps"] == done["steps"] + 3
    kept = [place for place in range(8) if place not in (1, 2, 6)]
    assert [again["text"][place] for place in kept] == [text[place] for place in kept]


@pytest.mark.bulk
def test_blocks_are_walked_after_an_edit_in_as_few_steps_as_they_can_be(server):
    body = {"length": 40, "steps": 4, "path": "block"}
    edits = [{"step": 3, "place": place, "do": "blank"} for place in (0, 39)]
    assert server.events("/api/walk", {**body, "edits": edits})[-1][0] == "done"


def test_a_given_token_may_be_sent_back_and_a_condition_guides(server):
    body = {
        "prompt": "the ", "length": 8, "steps": 4, "guidance": 2.0,
        "edits": [{"step": 0, "place": 0, "do": "lower", "snr": 1.5}],
    }  # fmt: skip
    events = server.events("/api/walk", body)
    assert frames(events)[0]["snr"][0] == 1.5
    assert events[-1][0] == "done"


@pytest.mark.bulk
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"prompt": "x{1-3}y"}, "Fill takes ranges"),
        ({"prompt": "☃"}, "not in the model's"),
        ({"prompt": "the _", "length": 3}, "more than the length 3"),
        ({"model": "nobody"}, "the models are run"),
        ({"path": "nowhere"}, "the paths are masked"),
        ({"path": "tuned"}, "stochloc tune"),
        ({"policy": "none"}, "the policies are path"),
        ({"transition": "leap"}, "the transitions are"),
        ({"corrector": "red", "rounds": 1}, "the correctors are"),
        ({"path": "block", "steps": 1, "length": 40}, "need at least 3 steps"),
        ({"guidance": 2.0}, "Guidance needs a condition"),
        ({"label": "poem"}, "without classes"),
        ({"edits": [{"step": 0, "place": 99, "do": "blank"}], "length": 9}, "no place 99"),
        ({"edits": [{"step": 0, "place": 1, "do": "fix"}]}, "give the token"),
        ({"edits": [{"step": 0, "place": 1, "do": "fix", "token": "zz"}]}, "not a single token"),
        ({"edits": [{"step": 0, "place": 1, "do": "lower"}]}, "give the snr"),
        ({"length": 0}, "length: input should be greater than or equal to 1"),
        ({"steps": 10**9}, "steps: input should be less than or equal to 1024"),
        ({"speed": 3}, "There is no setting 'speed' here"),
    ],
    ids=str,
)  # fmt: skip
def test_a_walk_that_makes_no_sense_is_refused_with_a_sentence(server, wrong, sentence):
    answer = server.post("/api/walk", {"steps": 2, **wrong})
    assert answer.status == 422
    assert sentence in answer.json["detail"]
    assert "\n" not in answer.json["detail"]


@pytest.mark.bulk
def test_what_goes_wrong_on_the_way_ends_the_stream_with_a_sentence(server):
    body = {"length": 6, "steps": 3, "edits": [{"step": 50, "place": 1, "do": "blank"}]}
    events = server.events("/api/walk", body)
    assert len(frames(events)) == 4
    assert events[-1][0] == "error"
    assert "ends after step 3" in events[-1][1]["detail"]


def test_kept_states_stay_within_their_bytes_and_the_oldest_go_first():
    state = State(torch.zeros(1, 8, 4), torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 8))
    kept = Kept(state, 1, 0.0)
    states = KeptStates(3 * kept.size)
    for number in range(5):
        states.keep(number, kept)
        states.find(0)
    assert states.bytes == 3 * kept.size
    assert [number for number in range(5) if states.find(number)] == [0, 3, 4]
