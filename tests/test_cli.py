"""The command line: the contract that scripts rely on, and the messages for bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from stochloc.cli import main
from stochloc.cli.sample import BORDER
from stochloc.data import corpora
from stochloc.data.texts import file_source
from stochloc.tasks import cyclic
from stochloc.tasks.runs import open_run
from stochloc.tasks.train import start_run

pytestmark = pytest.mark.bulk

PATHS = ("masked", "spread", "sweep", "diffusion", "autoregressive", "block", "rolling", "hybrid")
TEXT = "the quick brown fox jumps over the lazy dog and runs away. "
TRAIN = (
    "--steps", "4", "--length", "16", "--width", "16", "--depth", "1", "--heads", "2",
    "--batch-size", "4", "--eval-every", "2", "--checkpoint-every", "2", "--accelerator", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text, a run on it, and a cache of its own."""
    folder = tmp_path_factory.mktemp("place")
    os.environ["STOCHLOC_CACHE"] = str(folder / "cache")
    (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
    main(["train", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *TRAIN])
    yield folder
    del os.environ["STOCHLOC_CACHE"]


def run_json(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return json.loads(capsys.readouterr().out)


def refuse(capsys, *arguments):
    """Run a command that must fail with code 2 and one sentence, and return the sentence."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    lines = captured.err.strip().splitlines()
    assert len([line for line in lines if line.startswith("stochloc: ")]) == 1, captured.err
    return lines[-1]


def test_a_run_holds_its_model_tokenizer_recipe_and_metrics(place):
    names = {path.name for path in (place / "run").iterdir()}
    assert names == {
        "recipe.json", "tokenizer.json", "metrics.jsonl", "checkpoint.safetensors", "config.json",
        "model.safetensors", ".lock",
    }  # fmt: skip
    recipe = json.loads((place / "run" / "recipe.json").read_text())
    assert recipe["training"]["num_steps"] == 4
    assert recipe["preset"] == "tiny"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", [("--transition", "euler"), ("--transition", "ancestral"),
                                  ("--continuous",)])  # fmt: skip
def test_eval_bounds_every_path_with_both_transitions_and_continuously(place, capsys, path, mode):
    result = run_json(
        capsys, "eval", place / "run", "--data", place / "text.txt", "--path", path, "--steps", 8,
        "--sequences", 4, *mode, "--json",
    )  # fmt: skip
    needed = {
        "bits_per_token", "stderr", "nats_per_sequence", "sequences", "path", "transition", "steps",
        "denoiser_calls", "bits_per_character",
    }  # fmt: skip
    assert needed <= result.keys()
    assert result["path"] == path
    assert result["sequences"] == 4
    assert result["bits_per_token"] == pytest.approx(result["bits_per_character"])
    assert 1 < result["bits_per_token"] < 60
    assert result["denoiser_calls"] in (8, 9)
    assert ("line integral" in result["estimator"]) == (mode == ("--continuous",))


def test_without_json_eval_prints_readable_text(place, capsys):
    main(["eval", str(place / "run"), "--sequences", "2", "--steps", "2"])
    out = capsys.readouterr().out
    assert "bits per character" in out
    assert "test part of text.txt" in out


def test_the_same_seed_gives_the_same_text_and_another_seed_another(place, capsys):
    def drawn(seed):
        return run_json(capsys, "sample", place / "run", "--n", 3, "--length", 16, "--seed", seed,
                        "--json")  # fmt: skip

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first["samples"] == again["samples"] != other["samples"]
    assert [len(text) for text in first["samples"]] == [16, 16, 16]
    assert first["denoiser_calls"] == 16
    assert first["seconds"] > 0


def drawn(*batches):
    """What draws these texts, batch by batch, in place of a model."""
    return lambda *_: iter([SimpleNamespace(samples=texts) for texts in batches])


def test_texts_of_several_lines_have_a_border_between_them(place, capsys, monkeypatch):
    batches = drawn(["a", "b"], ["c\nd", "e"], ["f"])
    monkeypatch.setattr("stochloc.tasks.generate.generate_batches", batches)
    main(["sample", str(place / "run")])
    texts = capsys.readouterr().out.split(f"{BORDER}\n\n")
    assert texts == ["a\n\nb\n\n", "c\nd\n\n", "e\n\n", "f\n\n"]


def test_texts_of_one_line_have_no_border_and_the_first_text_none_before_it(
    place, capsys, monkeypatch
):
    for texts in (["a", "b"], ["a\nb"]):
        monkeypatch.setattr("stochloc.tasks.generate.generate_batches", drawn(texts))
        main(["sample", str(place / "run")])
        assert capsys.readouterr().out == "".join(f"{text}\n\n" for text in texts)


@pytest.mark.parametrize("path", PATHS)
def test_every_sample_begins_with_the_prompt(place, capsys, path):
    result = run_json(capsys, "sample", place / "run", "--path", path, "--prompt", "the dog",
                      "--steps", 8, "--temperature", 0.7, "--json")  # fmt: skip
    assert result["samples"]
    assert all(text.startswith("the dog") for text in result["samples"])


def test_a_trace_is_one_line_of_json_per_step_before_the_result(place, capsys):
    main(["sample", str(place / "run"), "--path", "diffusion", "--steps", "5", "--trace"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines[:-1]] == [1, 2, 3, 4, 5]
    assert lines[-2]["known"] == 1.0
    assert lines[-2]["texts"] == lines[-1]["samples"]
    snrs = [line["snr"] for line in lines[:-2]]
    assert snrs == sorted(snrs)


@pytest.mark.bulk
def test_for_bytes_bits_per_character_are_more_than_bits_per_token(place, capsys):
    (place / "umlauts.txt").write_text("äöü ÄÖÜ ß €" * 200, encoding="utf-8")
    main(["train", "--data", str(place / "umlauts.txt"), "--tokenizer", "bytes", "--out",
          str(place / "bytes"), *TRAIN])  # fmt: skip
    capsys.readouterr()
    result = run_json(capsys, "eval", place / "bytes", "--sequences", 4, "--json")
    assert result["bits_per_character"] > 1.3 * result["bits_per_token"]


def test_the_version_is_printed_without_torch():
    from stochloc.version import __version__

    code = (
        "import sys\nfrom stochloc.cli import main\ntry:\n    main(['--version'])\n"
        "except SystemExit as stopped:\n    assert not stopped.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"stochloc {__version__}\n"), done.stderr


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_width_that_fits_no_heads_names_those_next_to_it(place, capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--data", str(place / "text.txt"), "--out", str(place / "nothing"),
              "--width", "63", "--heads", "4"])  # fmt: skip
    assert "width 63 is no multiple of twice the 4 heads: try a width of 56 or 64." in (
        capsys.readouterr().err
    )


def test_eval_says_windows_of_a_text_and_no_guidance(place, capsys):
    main(["eval", str(place / "run"), "--sequences", "2", "--steps", "2"])
    said = capsys.readouterr().out
    assert "nats per window" in said
    assert "sequence" not in said and "guided" not in said


def test_a_dry_run_says_in_one_sentence_what_would_be_trained(place, capsys):
    main(["train", "--data", str(place / "text.txt"), "--out", str(place / "nothing"), *TRAIN,
          "--dry-run"])  # fmt: skip
    captured = capsys.readouterr()
    assert json.loads(captured.out)["training"]["num_steps"] == 4
    parameters = open_run(place / "run").model.num_parameters
    assert f"{parameters:,} parameters" in captured.err
    assert "4 updates, each of 4 windows of 16 tokens." in captured.err
    main(["train", "--out", str(place / "run"), "--resume", "--dry-run"])
    assert f"{parameters:,} parameters" in capsys.readouterr().err


def test_a_dry_run_prints_the_resolved_recipe_and_writes_nothing(place, capsys):
    result = run_json(capsys, "train", "--data", place / "text.txt", "--out", place / "nothing",
                      "--preset", "text8-paper", "--steps", 77, "--dry-run")  # fmt: skip
    assert result["training"]["num_steps"] == 77
    assert result["training"]["law"]["law"] == "SentenceLogNormal"
    assert result["model"]["width"] == 768
    assert not (place / "nothing").exists()


@pytest.mark.bulk
def test_cyclic_prints_log_k_beside_estimates_within_their_errors(capsys, monkeypatch):
    monkeypatch.setattr("stochloc.tasks.cyclic.ADAPTIVE_STEPS", 10)
    monkeypatch.setattr("stochloc.tasks.cyclic.STEPS", (1, 8, 128))
    result = run_json(capsys, "cyclic", "--size", 5, "--sequences", 100, "--json")
    assert result["log_K"] == pytest.approx(1.6094379)
    integrals = [row for row in result["likelihood"] if row["estimator"] == "line integral"]
    assert {row["path"] for row in integrals} == set(cyclic.PATHS)
    for row in integrals:
        assert abs(row["nats"] - result["log_K"]) < 5 * row["stderr"] + 1e-9
    assert set(result["valid"]) == {"ancestral", "euler"}
    for shares in result["valid"].values():
        assert list(shares) == ["1", "8", "128"]
        assert shares["128"]["fraction"] > 0.97
    walk = result["recovery"]["walks"]["ancestral"]["128"]
    exact = result["recovery"]["exact_probability_of_original"]
    assert abs(walk["equal"]["fraction"] - exact) < 5 * walk["equal"]["stderr"]


@pytest.mark.bulk
def test_without_json_cyclic_prints_readable_text(capsys, monkeypatch):
    monkeypatch.setattr("stochloc.tasks.cyclic.STEPS", (1, 8))
    monkeypatch.setattr("stochloc.tasks.cyclic.LINE_INTEGRAL_SAMPLES", 4)
    monkeypatch.setattr("stochloc.tasks.cyclic.ADAPTIVE_STEPS", 2)
    main(["cyclic", "--size", "3", "--sequences", "20"])
    out = capsys.readouterr().out
    assert "K = 3: exact -log P = log K = 1.0986 nats" in out
    assert all(path in out for path in cyclic.PATHS)


@pytest.mark.bulk
def test_quickstart_shows_what_a_model_does_and_shown_again_trains_nothing(
    tmp_path, capsys, monkeypatch
):
    def start_smaller(folder, choice, tokenizer, preset, changes, hardware):
        smaller = {"width": 16, "depth": 1, "heads": 2, "length": 48, "batch_size": 4}
        return start_run(folder, choice, tokenizer, preset, {**changes, **smaller}, hardware)

    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.txt").write_text(TEXT * 200, encoding="utf-8")
    small = file_source(tmp_path / "small.txt")
    monkeypatch.setitem(corpora._NAMED, "builtin", lambda: small)
    monkeypatch.setattr("stochloc.tasks.quickstart.start_run", start_smaller)
    for name, value in (("NUM_UPDATES", 2), ("SEQUENCES", 4), ("INTEGRAL_SAMPLES", 2)):
        monkeypatch.setattr(f"stochloc.tasks.quickstart.{name}", value)
    result = run_json(capsys, "quickstart", "--out", tmp_path / "first", "--json")
    assert [bound["path"] for bound in result["bounds"]] == [
        "masked",
        "autoregressive",
        "diffusion",
    ]
    assert [bound["is_exact"] for bound in result["bounds"]] == [False, True, False]
    assert all(bound["stderr"] > 0 for bound in result["bounds"])
    assert [row["model"] for row in result["baselines"]] == ["unigram", "trigram"]
    assert len(result["samples"]) == 4
    assert result["infill"]
    assert all(answer["text"].endswith("came unto me saying") for answer in result["infill"])
    assert len(result["correction"]["text"]) == len(result["correction"]["read"])
    written = (tmp_path / "first" / "checkpoint.safetensors").stat().st_mtime_ns
    main(["quickstart", "--out", str(tmp_path / "first")])
    assert (tmp_path / "first" / "checkpoint.safetensors").stat().st_mtime_ns == written
    shown = capsys.readouterr().out
    assert str(tmp_path / "first") in shown
    assert all(text in shown for text in result["samples"])
    assert all(f"{bound['bits_per_token']:.3f} ± " in shown for bound in result["bounds"])


def test_help_is_printed_without_importing_torch():
    code = (
        "import sys, stochloc.cli as c\n"
        "try:\n    c.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_run_is_used_without_lightning_and_the_compiler_of_torch(place):
    code = (
        "import sys, stochloc.cli as c\n"
        f"c.main(['sample', {str(place / 'run')!r}, '--n', '1', '--steps', '2'])\n"
        "assert 'stochloc.nn.model' in sys.modules\n"
        "heavy = {'lightning_fabric', 'torch._dynamo', 'sympy', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", [
    "quickstart", "train", "eval", "sample", "infill", "score", "correct", "tune", "cyclic",
    "plot", "compare", "import", "export", "push",
    "pull",
])  # fmt: skip
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--" in shown
    assert "None" not in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no file"),
        (b"", "empty"),
        (b"short", "window"),
        (b"\xff\xfe not utf-8 " * 99, "UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path, capsys, monkeypatch, content, reason):
    monkeypatch.setenv("STOCHLOC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    sentence = refuse(capsys, "train", "--data", path, "--out", tmp_path / "run", *TRAIN)
    assert reason.lower() in sentence.lower()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--preset", "huge"), "no preset 'huge'"),
        (("--steps", "-3"), "--steps"),
        (("--batch-size", "0"), "--batch-size"),
        (("--learning-rate", "-1"), "--learning-rate"),
        (("--fractions", "0.5", "0.1", "0.1"), "sum to 1"),
        (("--heads", "3"), "heads"),
        (("--devices", "0"), "--devices"),
    ],
)
def test_a_setting_out_of_range_is_refused(place, capsys, arguments, reason):
    sentence = refuse(capsys, "train", "--data", place / "text.txt", "--out", place / "never",
                      *TRAIN, *arguments)  # fmt: skip
    assert reason in sentence
    assert not (place / "never").exists()


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("eval", ("--steps", "-1"), "--steps must be at least 1, not -1."),
        ("eval", ("--steps", "0"), "--steps"),
        ("eval", ("--path", "block", "--steps", "0"), "--steps"),
        ("sample", ("--steps", "-2"), "step"),
        ("sample", ("--n", "0"), "--n must be at least 1, not 0."),
        ("sample", ("--length", "-4"), "length"),
        ("sample", ("--temperature", "0"), "temperature"),
        ("sample", ("--prompt", "ÄÖ"), "Ä"),
        ("sample", ("--prompt", "the " * 30), "more than the length"),
        ("sample", ("--seed", "-1"), "seed"),
    ],
)
def test_a_wrong_number_or_prompt_is_refused(place, capsys, command, arguments, reason):
    assert reason in refuse(capsys, command, place / "run", *arguments)


def test_no_data_and_no_resume_is_refused(tmp_path, capsys):
    assert "--data" in refuse(capsys, "train", "--out", tmp_path / "run")


def test_characters_the_model_has_never_seen_are_refused_at_eval(place, capsys):
    (place / "strange.txt").write_text(TEXT * 5 + "é" + TEXT, encoding="utf-8")
    assert "é" in refuse(capsys, "eval", place / "run", "--data", place / "strange.txt")


def test_what_is_no_run_is_refused_everywhere(place, capsys):
    empty = place / "empty"
    empty.mkdir(exist_ok=True)
    for folder in (empty, place / "text.txt", place / "absent"):
        assert "run" in refuse(capsys, "sample", folder)
        assert "run" in refuse(capsys, "eval", folder)
    assert "run" in refuse(capsys, "train", "--out", empty, "--resume")


def test_a_folder_that_holds_something_is_not_overwritten(place, capsys):
    before = {path: path.read_bytes() for path in (place / "run").iterdir()}
    sentence = refuse(capsys, "train", "--data", place / "text.txt", "--out", place / "run", *TRAIN)
    assert "--resume" in sentence
    assert {path: path.read_bytes() for path in (place / "run").iterdir()} == before


def test_resuming_with_another_recipe_is_refused(place, capsys):
    assert "updates" in refuse(capsys, "train", "--out", place / "run", "--resume", "--steps", 3)


def test_resuming_a_finished_run_changes_nothing(place):
    before = (place / "run" / "model.safetensors").read_bytes()
    main(["train", "--out", str(place / "run"), "--resume"])
    assert (place / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("checkpoint.safetensors", "train"),
        ("model.safetensors", "sample"),
        ("config.json", "sample"),
        ("recipe.json", "sample"),
        ("tokenizer.json", "sample"),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_overwritten(place, tmp_path, capsys, name, command):
    run = shutil.copytree(place / "run", tmp_path / "run")
    (run / name).write_bytes((run / name).read_bytes()[:-9])
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    arguments = ("--out", run, "--resume") if command == "train" else (run,)
    sentence = refuse(capsys, command, *arguments)
    assert str(run / name) in sentence
    assert "damaged" in sentence
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_model_of_another_tokenizer_is_refused(place, tmp_path, capsys):
    run = shutil.copytree(place / "run", tmp_path / "run")
    (run / "tokenizer.json").write_text('{"kind": "bytes"}')
    assert "not belong to the same run" in refuse(capsys, "sample", run)


def test_a_full_disk_is_one_sentence(place, tmp_path, capsys, monkeypatch):
    def full_disk(*arguments):
        raise OSError(28, "No space left on device", "model.safetensors")

    monkeypatch.setattr("stochloc.training.trainer.Checkpoint.write", full_disk)
    sentence = refuse(capsys, "train", "--data", place / "text.txt", "--out", tmp_path / "run",
                      *TRAIN)  # fmt: skip
    assert "No space left" in sentence


def test_the_parser_refuses_an_unknown_path(place, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(place / "run"), "--path", "zigzag"])
    assert stopped.value.code == 2
    assert "zigzag" in capsys.readouterr().err


def stochloc(*arguments):
    return [sys.executable, "-m", "stochloc", *map(str, arguments)]


@pytest.mark.slow
def test_a_run_killed_with_signal_9_resumes_to_the_same_numbers(place, tmp_path):
    settings = ["--data", place / "text.txt", *TRAIN, "--steps", 200, "--checkpoint-every", 10]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(stochloc("train", "--out", whole, *settings), check=True, **quiet)
    with subprocess.Popen(stochloc("train", "--out", cut, *settings), **quiet) as victim:
        while not (cut / "checkpoint.safetensors").exists() and victim.poll() is None:
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    subprocess.run(stochloc("train", "--out", cut, "--resume"), check=True, **quiet)
    names = ("model.safetensors", "config.json")
    assert [(whole / n).read_bytes() for n in names] == [(cut / n).read_bytes() for n in names]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_command(place, tmp_path):
    settings = [*TRAIN[:-2], "--accelerator", "cuda", "--precision", "bf16-mixed"]
    main(["train", "--data", str(place / "text.txt"), "--out", str(tmp_path / "run"), *settings])
    assert (tmp_path / "run" / "model.safetensors").exists()
