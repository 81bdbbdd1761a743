"""Data sets of the Hugging Face hub, or saved to disk, as records."""

import time
from unittest.mock import Mock

import pytest

from stochloc.data.records import Reading

datasets = pytest.importorskip("datasets", reason="needs the package datasets")


@pytest.fixture
def saved(tmp_path):
    parts = {
        "train": {"id": [1, 2, 3], "text": ["one", "two", "three"]},
        "test": {"id": [4], "text": ["four"]},
    }
    tables = {name: datasets.Dataset.from_dict(columns) for name, columns in parts.items()}
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "saved")
    return f"hf:{tmp_path / 'saved'}"


def texts_of(data, field=None, split=None):
    return [record.text for record in Reading(field, split).records(data).records()]


def test_a_saved_data_set_gives_the_texts_of_a_split_by_default_those_for_training(saved):
    assert texts_of(saved) == texts_of(saved, "text", "train") == ["one", "two", "three"]
    assert texts_of(saved, split="test") == ["four"]
    (record,) = Reading(split="test").records(saved).records()
    assert record.name == f"example 1 of {saved} (test)"
    assert b"".join(Reading().text(saved).chunks()) == b"one\ntwo\nthree"


def test_a_data_set_is_known_by_its_texts(saved, tmp_path):
    alone = datasets.Dataset.from_dict({"body": ["one", "two", "three"]})
    alone.save_to_disk(tmp_path / "alone")
    alone.select([1, 0, 2]).save_to_disk(tmp_path / "mixed")
    facts = [
        Reading().records(data).fingerprint
        for data in (saved, f"hf:{tmp_path / 'alone'}", f"hf:{tmp_path / 'mixed'}")
    ]
    assert facts[0] == facts[1] != facts[2]


def test_what_a_data_set_does_not_hold_is_refused_by_name(saved, tmp_path):
    datasets.Dataset.from_dict({"id": [1]}).save_to_disk(tmp_path / "numbers")
    datasets.Dataset.from_dict({"a": ["x", None]}).save_to_disk(tmp_path / "gaps")
    numbers, gaps = f"hf:{tmp_path / 'numbers'}", f"hf:{tmp_path / 'gaps'}"
    for reading, data, sentence in (
        (Reading(split="valid"), saved, "has no split 'valid'; there are train, test"),
        (Reading("body"), saved, "has no field 'body'; there are id, text: name one"),
        (Reading(), numbers, "has no column of text; there are id: name a field"),
        (Reading("id"), numbers, "The field 'id' of example 1 of "),
        (Reading(split="train"), numbers, "has no splits; leave out --hf-split"),
        (Reading(), gaps, "The field 'a' of example 2 of "),
        (Reading(), f"hf:{tmp_path}", "is not a data set saved to disk"),
    ):
        with pytest.raises(ValueError, match=r".") as refused:
            list(reading.records(data).records())
        assert sentence in str(refused.value)


def test_a_data_set_that_the_hub_does_not_have_is_refused(monkeypatch, capsys):
    from huggingface_hub.errors import RepositoryNotFoundError

    def ask(hub, name, timeout):
        raise RepositoryNotFoundError("no", response=Mock())

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", ask)
    with pytest.raises(ValueError, match=r"^hf:who/what is neither a folder here nor a data set"):
        texts_of("hf:who/what")
    assert capsys.readouterr().err.startswith("Asking the Hugging Face hub for the data set who/")


def test_a_hub_that_does_not_answer_is_waited_for_no_longer_than_said(monkeypatch, capsys):
    monkeypatch.setattr("stochloc.data.hub.ANSWER_S", 0.2)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: time.sleep(60))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: time.sleep(60))
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"The data set who/what cannot be loaded \(no answer wi"):
        texts_of("hf:who/what")
    assert time.monotonic() - begin < 20
    assert "The hub does not answer" in capsys.readouterr().err


def test_name_configuration_and_split_reach_the_hub(monkeypatch):
    asked = []

    def load(name, configuration):
        asked.append((name, configuration))
        return datasets.DatasetDict({"test": datasets.Dataset.from_dict({"text": ["x"]})})

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr("datasets.load_dataset", load)
    assert texts_of("hf:who/what:en", split="test") == texts_of("hf:who/what") == ["x"]
    assert asked == [("who/what", "en"), ("who/what", None)]
