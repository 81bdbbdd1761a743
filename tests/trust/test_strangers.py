"""Untrusted model files: refused quickly in one sentence, in little memory, running no code."""

import json
import pickle
import shutil
import struct

import pytest
import torch
from safetensors.torch import load, save, save_file

from stochloc.nn import LocalizationModel
from stochloc.nn.weights import MOST_HEADER_BYTES
from stochloc.tasks.runs import open_run

WEIGHTS = "model.safetensors"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def change(path, **values):
    """Set values in a JSON file; `part__name` is `name` within `part`."""
    facts = json.loads(path.read_text())
    for name, value in values.items():
        *parts, last = name.split("__")
        place = facts
        for part in parts:
            place = place[part]
        place[last] = value
    path.write_text(json.dumps(facts))


@pytest.fixture
def refused(run, worker):
    """Returns the sentence a folder is refused with, in two seconds and 200 MB at most."""

    def refuse():
        answer = worker("model_folder", run)
        kind, _, sentence = answer["ended"].partition(": ")
        assert kind == "ValueError", answer
        assert answer["seconds"] < 2
        assert answer["grown_kb"] < 200_000
        assert 0 < len(sentence) < 600
        assert "\n" not in sentence
        return sentence

    return refuse


def test_every_truncation_of_the_weights_is_refused(run, refused):
    whole = (run / WEIGHTS).read_bytes()
    for length in {0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1}:
        (run / WEIGHTS).write_bytes(whole[:length])
        refused()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(run, refused, value):
    weights = load((run / WEIGHTS).read_bytes())
    weights["head"][3, 2] = value
    save_file(weights, run / WEIGHTS, metadata={"format": "pt"})
    assert "head" in refused()


def test_tensors_of_another_shape_missing_unknown_or_of_another_type_are_refused(run, refused):
    weights = load((run / WEIGHTS).read_bytes())
    for name, value in (
        ("head", weights["head"][:, :8]), ("head", None), ("stranger", weights["head"] + 1),
        ("head", weights["head"].int()), ("head", weights["head"].bool()),
    ):  # fmt: skip
        changed = {k: v.contiguous() for k, v in {**weights, name: value}.items() if v is not None}
        save_file(changed, run / WEIGHTS, metadata={"format": "pt"})
        assert name in refused()


def test_a_header_that_claims_to_be_huge_is_refused_unread(run, refused):
    for length in (2**63, 2**40, 90_000_000, MOST_HEADER_BYTES + 1):
        with (run / WEIGHTS).open("wb") as file:
            file.write(struct.pack("<Q", length))
            file.truncate(min(length + 8, 90_000_008))  # sparse: no disk is used
        assert "larger than any model's" in refused()


def test_a_tensor_that_claims_more_bytes_than_there_are_is_refused(run, refused):
    header = {"head": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    text = json.dumps(header).encode()
    (run / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    refused()


@pytest.mark.parametrize(("name", "value"), [
    ("width", 2**19), ("width", 10**30), ("depth", 10**5), ("depth", 10**9), ("heads", -2),
    ("vocabulary_size", 10**8), ("vocabulary_size", 1e300), ("code_dimension", 10**6),
    ("evidence", "yes"), ("beta", float("nan")), ("beta", "1"), ("rotary_base", 0),
    ("neighbour_logit", float("inf")), ("stranger", 1), ("width", None), ("width", [16]),
    ("width", True),
])  # fmt: skip
def test_absurd_and_unknown_values_of_the_configuration_are_refused(run, refused, name, value):
    change(run / "config.json", **{name: value})
    refused()


@pytest.mark.parametrize(("name", "value"), [
    ("training__length", "16"), ("training__length", 1.5), ("training__seed", -1),
    ("training__law", {"law": "os.system"}), ("training__law", "TokenLogNormal"),
    ("training__law", {"law": "Endpoints", "inner": 3}),
    ("training__law", {"law": "TokenLogNormal", "mean": "0"}),
    ("training__learning_rate", float("nan")), ("model", 3), ("training", []),
    ("data", {"data": 3, "valid": None, "test": None, "fractions": [1, 0, 0]}),
    ("data", {"data": "x", "valid": None, "test": None, "fractions": 3}), ("preset", 7),
])  # fmt: skip
def test_absurd_and_unknown_values_of_the_recipe_are_refused(run, refused, name, value):
    change(run / "recipe.json", **{name: value})
    refused()


@pytest.mark.parametrize("facts", [
    {}, {"kind": "../../etc/passwd"}, {"kind": "characters"}, {"kind": "characters", "alphabet": 3},
    {"kind": "characters", "alphabet": "aa"}, {"kind": "characters", "alphabet": ""},
    {"kind": ["bytes"]}, {"kind": "slotted", "inner": {"kind": "bytes"}, "rate": float("nan")},
    {"kind": "labelled", "inner": {"kind": "bytes"}, "labels": []},
])  # fmt: skip
def test_what_is_not_a_tokenizer_is_refused(run, refused, facts):
    (run / "tokenizer.json").write_text(json.dumps(facts))
    refused()


@pytest.mark.parametrize("name", ["recipe.json", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"a":' * 100_000, b"[" * 100_000,
], ids=range(8))  # fmt: skip
def test_a_description_that_is_no_json_object_is_refused(run, refused, name, content):
    (run / name).write_bytes(content)
    refused()


def test_a_description_that_is_larger_than_any_is_not_read(run, refused):
    for name in ("recipe.json", "tokenizer.json", "config.json"):
        kept = (run / name).read_bytes()
        with (run / name).open("wb") as file:
            file.truncate(4_000_000_000)  # sparse: no disk is used
        refused()
        (run / name).write_bytes(kept)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_no_file_is_unpickled_whatever_its_name(run, refused, worker, tmp_path):
    bomb, sign = pickle.dumps({"head": Bomb(tmp_path / "exploded")}), tmp_path / "exploded"
    (run / WEIGHTS).unlink()
    for name in (WEIGHTS, "pytorch_model.bin", "checkpoint.safetensors", "model.pt"):
        (run / name).write_bytes(bomb)
        refused()
    ended = worker("command_line", "train", "--out", run, "--resume", "--accelerator", "cpu")
    assert ended["ended"] == "exit 2"
    assert not sign.exists()


def test_a_model_on_the_hub_without_safetensors_is_never_loaded_from_a_pickle(run, monkeypatch):
    asked = []

    def download(model_id, name, **hub):
        asked.append(name)
        raise FileNotFoundError(name)

    monkeypatch.setattr("stochloc.nn.model.hf_hub_download", download)
    config = open_run(run).model.config
    with pytest.raises(FileNotFoundError):
        LocalizationModel._from_pretrained(model_id="someone/model", config=config)
    assert asked == [WEIGHTS]


def test_names_that_climb_out_of_the_folder_are_only_names(run, refused, tmp_path):
    weights = load((run / WEIGHTS).read_bytes())
    weights["../../escaped"] = torch.zeros(2)
    (run / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
    assert "escaped" in refused()
    assert not list(tmp_path.parent.glob("**/escaped"))


def test_a_link_to_a_file_elsewhere_is_read_as_json_or_refused(run, refused):
    (run / "tokenizer.json").unlink()
    (run / "tokenizer.json").symlink_to("/etc/passwd")
    assert "root:" not in refused()


def test_a_recipe_too_large_for_the_machine_is_refused_by_training(run, worker):
    change(run / "recipe.json", model__width=10**6, model__heads=1)
    ended = worker("command_line", "train", "--out", run, "--resume", "--accelerator", "cpu")
    assert ended["ended"] == "exit 2"
    assert ended["errors"].count("stochloc: ") == 1
    assert ended["grown_kb"] < 200_000
