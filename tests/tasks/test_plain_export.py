"""`stochloc export`: tensors from which lines of docs/how-to/export.md compute the same logits."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stochloc.core import observe
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.nn.backbones import ARCHITECTURES, TWO_SIDED
from stochloc.nn.plain import plain
from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text("utf-8")
(LINES,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
V, LENGTH = 5, 7


def shaken(architecture, **choices):
    """A model in float64 whose every weight has been moved from its start."""
    torch.manual_seed(0)
    model = LocalizationModel(ModelConfig(V, 16, 3, 2, architecture=architecture, **choices))
    model = model.double()
    model.set_unigram(torch.tensor([8, 1, 3, 2, 11]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, dtype=torch.float64))
    return model


def states(model):
    """Rows with tokens at γ = 0, in between and ∞, at every place of some row."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, V, (12, LENGTH), generator=generator)
    choice = torch.randint(0, 4, (12, LENGTH), generator=generator)
    snr = torch.tensor([0.0, 1.5, 30.0, torch.inf], dtype=torch.float64)[choice]
    return observe(model.codebook, tokens, snr.to(model.head.dtype), generator)


def deviation(model, state):
    """How far the lines of the page are from the model, in log-probabilities of unknown tokens."""
    names = {}
    exec(compile(LINES, "docs/how-to/export.md", "exec"), names)
    with torch.no_grad():
        found = names["logits"](state.z, state.known).log_softmax(-1)
        wanted = model.readout(state).logits.log_softmax(-1)
    free = ~state.is_known
    # -∞ in both, for tokens that are only ever given, is no difference.
    both = torch.where(found == wanted, 0.0, found - wanted)
    return float(both[free].abs().max())


@pytest.mark.parametrize("choices", [
    {},
    {"neighbour_logit": 3.0, "rotary_base": 100.0, "head_bias": True, "given_tokens": 2},
    {"code_dimension": 3, "mask_slot": True, "unigram": False, "beta": 0.7},
], ids=["plain", "biases", "codes"])  # fmt: skip
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_lines_of_the_page_compute_the_logits_of_every_kind_of_model(
    architecture, choices, tmp_path, monkeypatch
):
    model = shaken(architecture, **choices)
    written = plain(model)
    (tmp_path / "plain").mkdir()
    save_file(written.tensors, tmp_path / "plain" / "model.safetensors")
    (tmp_path / "plain" / "config.json").write_text(json.dumps(written.facts))
    monkeypatch.chdir(tmp_path)
    assert deviation(model, states(model)) < 1e-6  # Rotations are those of float32.


def test_evidence_is_left_out_where_a_model_adds_none(tmp_path, monkeypatch):
    model = shaken("encoder", evidence=False, unigram=False)
    written = plain(model)
    (tmp_path / "plain").mkdir()
    save_file(written.tensors, tmp_path / "plain" / "model.safetensors")
    (tmp_path / "plain" / "config.json").write_text(json.dumps(written.facts))
    monkeypatch.chdir(tmp_path)
    assert deviation(model, states(model)) < 1e-6  # Rotations are those of float32.


@pytest.mark.parametrize("kind", ["trained", "encoder"])
def test_a_run_is_exported_by_one_command_in_float32(
    kind, request, tmp_path, monkeypatch, call_json
):
    folder = request.getfixturevalue(kind)
    run = folder / "run" if kind == "trained" else folder
    monkeypatch.chdir(tmp_path)
    told = call_json("export", run, "--out", "plain")
    opened = open_run(run)
    assert told["length"] == opened.length
    assert told["two_sided"] == (opened.model.config.architecture == TWO_SIDED)
    tensors = load_file("plain/model.safetensors")
    assert told["parameters"] == sum(tensor.numel() for tensor in tensors.values())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    own = json.loads((run / "tokenizer.json").read_text("utf-8"))
    assert json.loads(Path("plain/tokenizer.json").read_text("utf-8")) == own
    assert deviation(opened.model, states(opened.model)) < 1e-5


def test_the_last_weights_are_exported_on_request(trained, tmp_path, call_json):
    both = [
        load_file(call_folder / "model.safetensors")
        for which in ("best", "last")
        if (call_folder := tmp_path / which)
        and call_json("export", trained / "run", "--out", call_folder, "--checkpoint", which)
    ]
    last = open_run(trained / "run", checkpoint="last").model
    assert torch.equal(both[1]["head.weight"], last.head)


def test_what_cannot_be_exported_is_refused_in_one_sentence(trained, tmp_path, refuse):
    (tmp_path / "there").mkdir()
    said = refuse("export", trained / "run", "--out", tmp_path / "there")
    assert said.endswith("there already exists: choose another --out.")
    assert "There is no run in" in refuse("export", tmp_path / "no" / "x", "--out", tmp_path / "y")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    placed = LocalizationModel(ModelConfig(V, 16, 1, 2, positions="grid:2x2"))
    with pytest.raises(ValueError, match=r"whose places have coordinates .* no plain form"):
        plain(placed)
