"""The harness's model: its numbers are ours, its texts are drawn by any path or policy."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from tasks.conftest import TRAIN

from stochloc.adapters.continuations import Piece, pieces
from stochloc.adapters.lm_eval import StochlocLM
from stochloc.adapters.wanted import GREEDY, Wanted
from stochloc.cli import main
from stochloc.core import between, start
from stochloc.tasks.runs import open_run
from stochloc.tasks.score import score
from stochloc.tasks.scored import Scoring
from stochloc.tasks.walks import WalkSettings

pytestmark = pytest.mark.bulk

TEXT = "the quick brown fox jumps over the lazy dog and runs away. "
LINES = ("the lazy dog", "fox", "a lazy fox runs", "the quick brown fox jumps over the lazy dog")
WINDOW = 16


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same text, one of each kind; tests may read them."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        for kind in ("two-sided", "encoder"):
            main(["train", "--data", str(folder / "text.txt"), "--architecture", kind,
                  "--out", str(folder / kind), *TRAIN])  # fmt: skip
    return folder


def asked(*arguments):
    return SimpleNamespace(args=arguments)


def model(runs, kind="two-sided", **settings):
    return StochlocLM(str(runs / kind), **settings)


def test_pieces_score_every_token_once_with_text_to_its_left():
    for size in range(40):
        for before in (0, 3, 9, 30):
            for left in (0, 1, 4, 7):
                context, scored = tuple(range(before)), tuple(range(before, before + size))
                cut = pieces(context, scored, 8, left)
                assert all(len(piece.tokens) <= 8 for piece in cut)
                found = [token for piece in cut for token in piece.tokens[piece.given :]]
                assert found == [*scored]
                for piece in cut:
                    first = piece.tokens[piece.given] if piece.given < len(piece.tokens) else 0
                    # What is given is the text just before.
                    assert piece.tokens[: piece.given] == tuple(range(first - piece.given, first))
                    assert piece.given >= min(left, first)
    assert pieces((0, 1, 2), (3, 4), 8, 4) == [Piece((0, 1, 2, 3, 4), 3)]


def test_rolling_likelihoods_are_those_of_score_exactly(runs):
    lm = model(runs, left_context=0)
    found = lm.loglikelihood_rolling([asked(line) for line in LINES])
    scored = score(lm.run, LINES)
    assert scored.is_exact and lm.is_exact and lm.errors == {}
    assert found == pytest.approx([-line.nats for line in scored.lines], abs=1e-5)
    # The last is longer than a window: with context its later windows cost something else.
    longer = model(runs).loglikelihood_rolling([asked(LINES[-1])])
    assert len(LINES[-1]) > WINDOW
    assert abs(longer[0] - found[-1]) > 1e-4


def test_bounds_are_those_of_score_with_their_errors(runs, capsys):
    lm = model(runs, "encoder", draws=3, steps=4, seed=5, left_context=0)
    capsys.readouterr()
    found = lm.loglikelihood_rolling([asked(line) for line in LINES])
    scoring = Scoring(WalkSettings("masked", num_steps=4), seed=5, num_draws=3)
    scored = score(lm.run, LINES, scoring)
    assert found == pytest.approx([-line.nats for line in scored.lines], abs=1e-4)
    told = capsys.readouterr().err
    errors = [line.nats_stderr for line in scored.lines]
    assert f"{max(errors):.3f} at most" in told
    info = lm.get_model_info()
    assert not info["stochloc_is_exact"]
    largest = info["stochloc_nats_stderr"]["loglikelihood_rolling"]["largest"]
    assert largest == pytest.approx(max(errors), rel=1e-4)


@pytest.mark.parametrize("kind", ["two-sided", "encoder"])
def test_conditionals_obey_the_chain_rule_from_left_to_right(runs, kind):
    lm = model(runs, kind, path="autoregressive", steps=WINDOW)
    assert lm.is_exact
    whole, begin = lm.loglikelihood_rolling([asked("the lazy dog"), asked("the lazy")])
    (rest, _), (all_of_it, _), (nothing, is_greedy) = lm.loglikelihood(
        [asked("the lazy", " dog"), asked("", "the lazy dog"), asked("the lazy", "")]
    )
    assert all_of_it == pytest.approx(whole, abs=1e-5)
    assert (nothing, is_greedy) == (0.0, True)
    # A text is placed in the middle of a window, so that its beginning lies elsewhere by itself.
    assert rest == pytest.approx(whole - begin, abs=0.05)


def test_a_conditional_of_a_bound_starts_with_its_context_known(runs):
    lm = model(runs, "encoder", draws=64, steps=8)
    ((masked, _),) = lm.loglikelihood([asked("the lazy", " dog")])
    exact = model(runs, "encoder", path="autoregressive", steps=WINDOW)
    ((nats, _),) = exact.loglikelihood([asked("the lazy", " dog")])
    stderr = lm.get_model_info()["stochloc_nats_stderr"]["loglikelihood"]["largest"]
    # Of an almost untrained model all orders cost about the same.
    assert abs(masked - nats) < 0.3 + 5 * stderr


@pytest.mark.parametrize("kind", ["two-sided", "encoder"])
def test_greedy_means_the_most_likely_token_after_those_before_it(runs, kind):
    lm = model(runs, kind)
    context, length = "the lazy", 11
    ids = list(lm._tokens(context))
    denoiser = lm.run.denoiser_for(length)
    while len(ids) < length:
        known = torch.full((1, length), -1)
        known[0, : len(ids)] = torch.tensor(ids)
        with torch.no_grad():
            posterior = denoiser(start(denoiser.codebook, 1, length, known))
        ids.append(int(posterior.mode[0, len(ids)]))
    greedy = lm.run.tokenizer.decode(torch.tensor(ids))[len(context) :]
    other = greedy[:-1] + ("x" if greedy[-1] != "x" else "y")
    answers = lm.loglikelihood([asked(context, greedy), asked(context, other)])
    assert [is_greedy for _, is_greedy in answers] == [True, False]
    assert (between(lm.run.model) is None) == (kind == "encoder")


def test_the_same_request_has_the_same_answer_beside_any_others(runs):
    lm = model(runs, "encoder", draws=2, steps=2)
    alone = lm.loglikelihood([asked("the", " dog")])
    beside = lm.loglikelihood([asked("a", " fox"), asked("the", " dog"), asked("the", " dog")])
    assert beside[1] == beside[2]
    assert beside[1][0] == pytest.approx(alone[0][0], abs=1e-5)


@pytest.mark.parametrize("settings", [
    {}, {"path": "spread", "steps": 3}, {"policy": "confidence", "steps": 3},
    {"path": "diffusion", "steps": 3},
])  # fmt: skip
def test_texts_follow_their_contexts_by_any_path_or_policy_up_to_a_stop_word(runs, settings):
    lm = model(runs, **settings)
    told = {"max_gen_toks": 6, "until": []}
    texts = lm.generate_until([asked("the lazy", told), asked("fox jump", told), asked("", told)])
    assert [len(text) for text in texts] == [6, 6, 6]
    stopped = lm.generate_until([asked("the lazy", {**told, "until": [texts[0][2]]})])
    assert stopped == [texts[0][: texts[0].index(texts[0][2])]]
    # Greedy texts are the same in every call; drawn ones have a seed.
    drawn = {**told, "do_sample": True, "temperature": 1.5}
    assert lm.generate_until([asked("the lazy", told)]) == texts[:1]
    one, same = (lm.generate_until([asked("the lazy", drawn)]) for _ in range(2))
    assert one == same


def test_a_wanted_text_fits_into_the_window_with_half_of_it_left_to_the_context():
    context = tuple(range(30))
    wanted = Wanted.of(context, {"max_gen_toks": 100, "until": "\n"}, 16)
    assert (wanted.context, wanted.num_new) == (context[-8:], 8)
    assert (wanted.until, wanted.temperature, wanted.top_p) == (("\n",), GREEDY, 1.0)
    assert Wanted.of(context, {"max_gen_toks": 3}, 16).context == context[-13:]
    assert Wanted.of((), {}, 16).num_new == 16
    drawn = Wanted.of(context, {"do_sample": True, "temperature": 0.7, "top_p": 0.9}, 16)
    assert (drawn.temperature, drawn.top_p) == (0.7, 0.9)
    with pytest.raises(ValueError, match="at least one token"):
        Wanted.of(context, {"max_gen_toks": 0}, 16)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"pathe": "masked"}, "There is no model argument 'pathe'; those there are: run, checkpoint"),
    ({"checkpoint": "first"}, "The checkpoint is best or last"),
    ({"draws": 0}, "draws at least 1"), ({"steps": "many"}, "The steps must be a whole number"),
    ({"left_context": 16}, "left_context must be smaller"), ({"path": "winding"}, "winding"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(runs, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        model(runs, **settings)


def test_unknown_characters_and_models_of_sequences_are_refused(runs, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="Ω"):
        model(runs).loglikelihood_rolling([asked("the Ω")])
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "names.txt").write_text(
        "\n".join(a + b for a in "abcdefgh" for b in ("nna", "ert", "lice"))
    )
    main(["train", "--data", str(tmp_path / "names.txt"), "--sequences", "--out",
          str(tmp_path / "run"), *TRAIN])  # fmt: skip
    with pytest.raises(ValueError, match="a model of whole sequences"):
        StochlocLM(str(tmp_path / "run"))


TASK = """task: own_{kind}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {output}
doc_to_text: "{text}"
doc_to_target: "{target}"
target_delimiter: ""
{rest}
"""


@pytest.mark.slow
def test_the_harness_gives_the_figures_of_score_on_a_task_file_of_ones_own(
    runs, tmp_path, monkeypatch
):
    evaluator = pytest.importorskip("lm_eval.evaluator")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [{"text": line, "choices": [" dog", " fox"], "gold": 0} for line in LINES[:3]]
    data = tmp_path / "lines.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    metrics = "metric_list:\n  - metric: {}"
    for kind, output, text, target, rest in (
        ("rolling", "loglikelihood_rolling", "", "{{text}}", metrics.format("byte_perplexity")),
        ("choice", "multiple_choice", "{{text}}", "gold",
         "doc_to_choice: choices\n" + metrics.format("acc")),
        ("text", "generate_until", "{{text}}", "{{text}}",
         "generation_kwargs:\n  until: ['.']\n  max_gen_toks: 4\n" + metrics.format("exact_match")),
    ):  # fmt: skip
        page = TASK.format(kind=kind, data=data, output=output, text=text, target=target, rest=rest)
        (tmp_path / f"{kind}.yaml").write_text(page, encoding="utf-8")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluator.simple_evaluate(
            model="stochloc", model_args=f"run={runs / 'two-sided'}",
            tasks=["own_rolling", "own_choice", "own_text"],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            log_samples=True, bootstrap_iters=0,
        )  # fmt: skip
    run = open_run(runs / "two-sided")
    scored = score(run, LINES[:3])
    total = math.exp(scored.nats / sum(len(line) for line in LINES[:3]))
    assert found["results"]["own_rolling"]["byte_perplexity,none"] == pytest.approx(total, rel=1e-5)
    for line, sample in zip(LINES, found["samples"]["own_choice"], strict=False):
        pairs = score(run, [f"{line} dog", f"{line} fox"]).lines
        costs = [sum(pair.token_nats[len(line) :]) for pair in pairs]
        if len(line) + 4 <= WINDOW:
            got = [-float(answer[0][0]) for answer in sample["resps"]]
            assert got == pytest.approx(costs, abs=1e-4)
    assert found["config"]["stochloc_is_exact"]
