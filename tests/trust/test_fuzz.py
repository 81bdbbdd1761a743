"""Ten thousand odd cases: each ends quickly, with a result or one sentence, and without files.

The cases are drawn by hypothesis and given to a process of its own, which must neither die nor
hang nor show a traceback (see `trust.conftest`).
"""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

SLOWEST_S = 5
NUMBERS = st.one_of(
    st.integers(), st.integers(-3, 70), st.floats(), st.floats(0, 2), st.just(10**400),
)  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def many(cases):
    return settings(
        max_examples=cases, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def check_answer(answer):
    """A result, or one sentence; `answer` is no crash by the worker's own check."""
    assert answer["seconds"] < SLOWEST_S, answer
    assert answer["grown_kb"] < 300_000, answer
    if answer["ended"].startswith("ValueError: "):
        sentence = answer["ended"].removeprefix("ValueError: ")
        assert 0 < len(sentence) < 1000
    elif answer["ended"] == "exit 2":
        # tyro frames its complaints and points to the help, we say a sentence.
        assert "Traceback" not in answer["errors"]
        last = answer["errors"].splitlines()[-1]
        assert last.startswith("stochloc: ") or "--help" in answer["errors"]
    else:
        assert answer["ended"] in ("done", "exit 0"), answer


def paths_in(values, before=()):
    """Every place in a JSON document."""
    for name, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield (*before, name)
        if isinstance(value, dict | list):
            yield from paths_in(value, (*before, name))


def put(values, place, value, is_removed):
    *parts, last = place
    for part in parts:
        values = values[part]
    if is_removed:
        del values[last]
    else:
        values[last] = value


@pytest.fixture(scope="module")
def recipe(trained):
    return json.loads((trained / "recipe.json").read_text())


def test_recipes_with_odd_values(worker, recipe):
    places = list(paths_in(recipe))

    @many(3000)
    @given(st.lists(st.tuples(st.sampled_from(places), JSON, st.booleans()), min_size=1,
                    max_size=2))  # fmt: skip
    def case(changes):
        values = json.loads(json.dumps(recipe))
        for place, value, is_removed in changes:
            try:
                put(values, place, value, is_removed)
            except (KeyError, IndexError, TypeError):  # an earlier change took the place away
                continue
        check_answer(worker("recipe", json.dumps(values)))

    case()


def test_model_folders_with_odd_descriptions(worker, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    names = ("config.json", "recipe.json", "tokenizer.json")
    kept = {name: (run / name).read_bytes() for name in names}
    places = [(name, place) for name in names for place in paths_in(json.loads(kept[name]))]

    @many(1500)
    @given(st.sampled_from(places), JSON, st.booleans())
    def case(where, value, is_removed):
        name, place = where
        values = json.loads(kept[name])
        put(values, place, value, is_removed)
        (run / name).write_text(json.dumps(values))
        check_answer(worker("model_folder", run))
        (run / name).write_bytes(kept[name])

    case()


def test_model_folders_with_bytes_flipped_cut_off_or_added(worker, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    names = ("model.safetensors", "config.json", "recipe.json", "tokenizer.json")
    kept = {name: (run / name).read_bytes() for name in names}

    @many(1500)
    @given(st.data())
    def case(data):
        name = data.draw(st.sampled_from(names))
        content = bytearray(kept[name])
        # Most of a model's file are weights; what is odd about it is mostly in its header.
        reach = min(len(content), data.draw(st.sampled_from([8, 2000, len(content)])))
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, reach - 1))] ^= 1 << data.draw(st.integers(0, 7))
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content)))]
        content += data.draw(st.binary(max_size=16))
        (run / name).write_bytes(content)
        check_answer(worker("model_folder", run))
        (run / name).write_bytes(kept[name])

    case()


def test_templates(worker):
    pieces = st.sampled_from(["{", "}", "{{", "}}", "_", "{3}", "{1-2}", "{2-1}", "{-}", "{9999}",
                              "{0-99999999}", "a", "b ", "7"])  # fmt: skip

    @many(2000)
    @given(st.one_of(st.lists(pieces, max_size=12).map("".join), st.text(max_size=30)))
    def case(text):
        check_answer(worker("template", text))

    case()


def contents(run):
    """All files but the one in which `correct` keeps what it has measured once."""
    return {
        path: path.read_bytes() for path in run.rglob("*")
        if path.is_file() and path.name != "correction.json"
    }  # fmt: skip


COMMANDS = {
    "sample": ("--n", "--length", "--steps", "--path", "--transition", "--policy", "--temperature",
               "--prompt", "--seed", "--guidance", "--label"),
    "eval": ("--steps", "--sequences", "--path", "--transition", "--policy", "--seed", "--split",
             "--data"),
    "score": ("--path", "--steps", "--seed"),
    "infill": ("--path", "--steps", "--seed", "--temperature"),
    "correct": ("--snr", "--threshold", "--confidences", "--seed"),
    "train": ("--steps", "--length", "--width", "--batch-size", "--learning-rate", "--fractions"),
    "compare": ("--methods", "--budget", "--seeds", "--grid", "--jobs", "--length"),
}  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(["0", "1", "-1", "2", "3", "nan", "inf", "-inf", "1e-320", "1e400", "", " ",
                     "masked", "block", "hybrid", "tuned", "rolling:3", "ancestral", "euler",
                     "confidence:0", "threshold:2", "tolerance:nan", "../..", "0.5", "None",
                     "updates=0", "seconds=nan", "all,", "a_b", "\0", "2147483648"]),
    st.integers(-5, 20).map(str), st.floats().map(str), st.text(max_size=12),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_command_lines(worker, trained, tmp_path, command):
    text, out = trained.parent / "text.txt", tmp_path / "out"
    lines = tmp_path / "lines.txt"
    lines.write_text("the dog\n", encoding="utf-8")
    # Small enough to be quick where the rest makes sense; a later value takes the place of these.
    fixed = {
        "sample": (trained, "--n", 1, "--length", 4, "--steps", 2),
        "eval": (trained, "--sequences", 2, "--steps", 2),
        "score": (trained, lines, "--steps", 2), "infill": (trained, "th_ dog", "--steps", 2),
        "correct": (trained, "thw dog", "--snr", 3.0, "--threshold", 0.5),
        "train": ("--dry-run", "--data", text, "--out", out, "--accelerator", "cpu"),
        # Every setting is looked at before the text, of which there is too little.
        "compare": ("--data", lines, "--out", out),
    }  # fmt: skip
    before, seen = contents(trained), set()

    @many(300)
    @given(st.lists(st.tuples(st.sampled_from(COMMANDS[command]), VALUES), max_size=3))
    def case(options):
        flat = [part for pair in options for part in pair]
        answer = worker("command_line", command, *fixed[command], *flat)
        check_answer(answer)
        seen.add(answer["ended"])
        assert not out.exists()

    case()
    assert seen >= ({"exit 2"} if command == "compare" else {"exit 2", "done"})
    assert contents(trained) == before, "a question changed the run"
