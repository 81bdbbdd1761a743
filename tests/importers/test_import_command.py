"""`stochloc import`: a checkpoint becomes a run, or one sentence says why not."""

import io
import json
import math
import pickle
import subprocess
import sys
import zipfile
from dataclasses import dataclass

import pytest
import torch
from importers.mdlm_layout import ALPHABET, MASK, V, random_checkpoint, reference_logits
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file

from stochloc.cli import main
from stochloc.core import start
from stochloc.importers import IMPORTERS, Imported, unpickling
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.tasks.runs import open_run, read_description
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

pytestmark = pytest.mark.bulk
LENGTH = 8
WEIGHTS = random_checkpoint()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text and a checkpoint; tests may add files to it."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "text.txt").write_text("abcd dcba bad cab dad " * 40, encoding="utf-8")
    (folder / "mdlm").mkdir()
    save_file(WEIGHTS, folder / "mdlm" / "model.safetensors")
    facts = {"n_heads": 2, "model_length": LENGTH, "time_conditioning": False}
    (folder / "mdlm" / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        main(["import", "mdlm", "mdlm", "--out", "run", "--data", "text.txt", "--json"])
    return folder


@pytest.fixture(autouse=True)
def at_place(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("STOCHLOC_CACHE", str(place / "cache"))


def refused(capsys, *arguments):
    """The sentence with which a command ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["import", *map(str, arguments)])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (sentence,) = captured.err.splitlines()
    return sentence


def logits_of(model):
    inputs = torch.tensor([[MASK, 1, 2, MASK, 0, 3]])
    known = inputs.masked_fill(inputs == MASK, -1)
    with torch.no_grad():
        logits = model.readout(start(model.codebook, *inputs.shape, known)).logits
    return logits, reference_logits(WEIGHTS, inputs, 2)[..., :V]


def test_an_imported_checkpoint_is_a_run_that_every_task_opens(capsys):
    for checkpoint in ("best", "last"):
        run = open_run("run", checkpoint=checkpoint)
        torch.testing.assert_close(*logits_of(run.model), atol=1e-4, rtol=0)
        assert (run.length, run.tokenizer.to_dict()["alphabet"]) == (LENGTH, ALPHABET)
    capsys.readouterr()
    main(["eval", "run", "--path", "masked", "--steps", "4", "--sequences", "3", "--json"])
    assert json.loads(capsys.readouterr().out)["bits_per_token"] > 0
    main(["sample", "run", "--n", "2", "--steps", "4", "--json"])
    assert [len(text) for text in json.loads(capsys.readouterr().out)["samples"]] == [LENGTH] * 2


@pytest.mark.filterwarnings("ignore:.*barrier.*", "ignore:.*not a DDP.*")
def test_training_goes_on_from_the_imported_weights(tmp_path):
    recipe, _, _ = read_description(open_run("run").folder)
    checkpoint = Checkpoint.read(open_run("run").folder)
    assert checkpoint is not None
    tokens = torch.arange(200).numpy() % V
    fabric = Fabric(accelerator="cpu", devices=1)
    texts = Texts(tokens, tokens, lambda model: "")
    trainer = Trainer.resumed(fabric, recipe, texts, tmp_path, checkpoint)
    imported = open_run("run").model
    for one, same in zip(trainer.model.parameters(), imported.parameters(), strict=True):
        assert torch.equal(one, same)
    assert float(trainer.update()) > 0
    assert trainer.step == 1
    changed = [
        not torch.equal(one, same)
        for one, same in zip(trainer.model.parameters(), imported.parameters(), strict=True)
    ]
    assert all(changed)


SHORT = ("--steps", "2", "--batch-size", "4", "--eval-every", "2", "--accelerator", "cpu")


def test_new_codes_and_an_early_mask_leave_masked_logits_what_they_were(tmp_path, capsys):
    """At zero SNR the mask keeps σ(lead) of the weight; known tokens never were codes."""
    for lead, away in (("20", 1e-4), ("8", 0.01)):
        out = tmp_path / lead
        begin = ["train", "--from", "run", "--data", "text.txt", "--out", str(out), *SHORT]
        main([*begin, "--learning-rate", "1e-12", "--code-dimension", "6", "--mask-lead", lead])
        model = open_run(out).model
        assert (model.config.code_dimension, model.codebook.dimension) == (6, 6)
        assert model.slot is not None
        assert model.slot.item() == pytest.approx(math.log(V) + float(lead))
        torch.testing.assert_close(*logits_of(model), atol=away, rtol=0)
        source = json.loads((out / "recipe.json").read_text("utf-8"))["from"]
        assert (source["run"], source["mask_lead"]) == ("run", float(lead))
    with pytest.raises(SystemExit):
        main(["train", "--data", "text.txt", "--out", str(tmp_path / "x"), "--mask-lead", "3"])
    assert "--mask-lead has no effect without --from" in capsys.readouterr().err
    main(["train", "--data", "text.txt", "--out", str(tmp_path / "own"), *SHORT, "--width", "8",
          "--depth", "1", "--heads", "1", "--length", "8", "--code-dimension", "3"])  # fmt: skip
    assert open_run(tmp_path / "own").model.codebook.dimension == 3
    with pytest.raises(SystemExit):
        main(["train", "--from", str(tmp_path / "own"), "--data", "text.txt", "--out",
              str(tmp_path / "x"), *SHORT, "--mask-lead", "3"])  # fmt: skip
    assert "has no mask slot, as imported models have" in capsys.readouterr().err


def test_a_pickle_of_the_same_tensors_gives_the_same_run(place, tmp_path):
    torch.save(WEIGHTS, tmp_path / "weights.pt")
    main(["import", "mdlm", str(tmp_path / "weights.pt"), "--out", str(tmp_path / "run"),
          "--data", "text.txt", "--length", str(LENGTH)])  # fmt: skip
    one, same = (load_file(run / "model.safetensors") for run in (place / "run", tmp_path / "run"))
    assert one.keys() == same.keys()
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_a_name_of_the_hub_is_asked_for_there(place, tmp_path, monkeypatch, capsys):
    asked = []

    def fetch(name):
        asked.append(name)
        return place / "mdlm"

    monkeypatch.setattr("stochloc.importers.files.fetch", fetch)
    main(["import", "mdlm", "owner/model", "--out", str(tmp_path / "run"), "--data", "text.txt"])
    assert asked == ["owner/model"]
    assert open_run(tmp_path / "run").length == LENGTH


class Hostile:
    """What creates a file when it is unpickled."""

    def __reduce__(self):
        return open, ("hacked", "w")


def test_a_pickle_runs_no_code(place, tmp_path, capsys):
    torch.save({**WEIGHTS, "epoch": Hostile()}, tmp_path / "bad.pt")
    assert "not a dictionary of tensors alone" in refused(
        capsys, "mdlm", tmp_path / "bad.pt", "--out", tmp_path / "x", "--data", "text.txt"
    )
    assert not (place / "hacked").exists()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("content", "sentence"), [
    ([1, 2], "not a dictionary of tensors"),
    ({"epoch": 3}, "it holds 'epoch', which is no tensor"),
    ({"table": torch.ones(1).to_sparse()}, "'table' is no ordinary tensor"),
    ({"table": torch.ones(1).expand(10**7, 10**7)}, "its tensors are larger than the file"),
])  # fmt: skip
def test_a_pickle_of_anything_but_tensors_of_its_own_size_is_refused(tmp_path, content, sentence):
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=sentence):
        unpickling.main(str(tmp_path / "bad.pt"), str(tmp_path / "good.safetensors"))
    assert not (tmp_path / "good.safetensors").exists()


def test_a_file_that_is_damaged_compressed_or_old_is_refused(tmp_path, capsys):
    whole = io.BytesIO()
    torch.save(WEIGHTS, whole)
    bad = tmp_path / "bad.pt"

    def sentence():
        return refused(capsys, "mdlm", bad, "--out", tmp_path / "x", "--data", "text.txt")

    bad.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert "damaged" in sentence()
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(10**6))
    assert "is compressed" in sentence()
    for content in (pickle.dumps({"a": 1}), b"", b"not a checkpoint at all"):
        bad.write_bytes(content)
        assert "neither a whole safetensors file nor what torch.save writes" in sentence()


def test_a_reader_that_is_killed_ends_with_one_sentence(tmp_path, capsys, monkeypatch):
    torch.save(WEIGHTS, tmp_path / "weights.pt")
    dies = subprocess.run

    def killed(command, **settings):
        return dies([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], **settings)

    monkeypatch.setattr("subprocess.run", killed)
    assert "its reader ended with code -9" in refused(
        capsys, "mdlm", tmp_path / "weights.pt", "--out", tmp_path / "x", "--data", "text.txt"
    )


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("mdlm", "none", "--out", "x", "--data", "text.txt"), "There is no checkpoint none"),
    (("sedd", "mdlm", "--out", "x", "--data", "text.txt"),
     "There is no importer for 'sedd'; those there are: mdlm."),
    (("mdlm", "mdlm", "--out", "run", "--data", "text.txt"), "run already exists"),
    (("mdlm", "cache", "--out", "x", "--data", "text.txt"),
     "holds neither model.safetensors nor pytorch_model.bin"),
    (("mdlm", "text.txt", "--out", "x", "--data", "text.txt"), "neither a whole safetensors file"),
    (("mdlm", "mdlm", "--out", "x", "--data", "no.txt"), "no.txt"),
    (("mdlm", "mdlm", "--out", "x", "--data", "text.txt", "--tokenizer", "text8"),
     "mdlm has 5 tokens, the tokenizer has 27"),
    (("mdlm", "mdlm", "--out", "x", "--data", "text.txt", "--heads", "4"),
     "rotations that are not those of MDLM with 4 heads"),
    (("mdlm", "mdlm", "--out", "x", "--data", "text.txt", "--length", "-3"),
     "The length of a checkpoint is at least 1, not -3"),
    (("mdlm", "mdlm", "--out", "x", "--data", "text.txt", "--heads", "0"),
     "The number of heads of a checkpoint is at least 1, not 0"),
    (("mdlm", "/dev/null", "--out", "x", "--data", "text.txt"), "neither a file nor a folder"),
])  # fmt: skip
def test_bad_input_is_refused_in_one_sentence_and_leaves_no_folder(
    place, capsys, arguments, sentence
):
    before = sorted(path.name for path in place.iterdir())
    assert sentence in refused(capsys, *arguments)
    assert sorted(path.name for path in place.iterdir()) == before


def test_weights_that_are_not_finite_are_refused(tmp_path, capsys):
    name = "backbone.blocks.0.mlp.0.bias"
    save_file({**WEIGHTS, name: torch.full((64,), torch.nan)}, tmp_path / "model.safetensors")
    assert "infinite or NaN" in refused(
        capsys, "mdlm", tmp_path, "--out", tmp_path / "x", "--data", "text.txt", "--length", "8"
    )


@dataclass(frozen=True)
class Bigrams:
    """An importer that joined yesterday: its layout is one matrix, the head."""

    def convert(self, checkpoint, told):
        head = checkpoint.tensor("table")
        config = ModelConfig(len(head), head.shape[1], 1, 1, unigram=False)
        model = LocalizationModel(config)
        return Imported(config, {**model.state_dict(), "head": head}, told.length or 4)


def test_a_new_importer_is_one_class_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(IMPORTERS, "bigrams", Bigrams())
    table = torch.randn(V, 6, generator=torch.Generator().manual_seed(0))
    save_file({"table": table}, tmp_path / "model.safetensors")
    capsys.readouterr()
    main(["import", "bigrams", str(tmp_path), "--out", str(tmp_path / "run"), "--data", "text.txt"])
    assert f"{V} tokens, windows of 4" in capsys.readouterr().out
    run = open_run(tmp_path / "run")
    assert torch.equal(run.model.head, table)
    assert run.recipe.preset == "bigrams"
