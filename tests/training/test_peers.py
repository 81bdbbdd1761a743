"""Processes that train one model notice when one of them is gone, and end with one sentence.

The processes here are threads' stand-ins with a store of their own: what is tested is who is
believed to be gone, when, and who tells. Real ones are killed in `test_processes.py`.
"""

import os
import time
from datetime import timedelta

import pytest
from torch.distributed.rendezvous import TCPStore

from stochloc.training import processes
from stochloc.training.processes import Peers, ProcessGoneError, _State, may_tell_end, together

SIZE = 3
SHORT_S = {"BEAT_S": 0.05, "SILENT_S": 1.5, "DOUBTED_S": 0.5, "ARRIVAL_S": 3, "LEAVING_S": 0.3}
pytestmark = pytest.mark.bulk


@pytest.fixture
def store(monkeypatch):
    """A store, and times that are a small part of real ones."""
    for name, short_s in SHORT_S.items():
        monkeypatch.setattr(processes, name, short_s)
    return TCPStore("localhost", 0, is_master=True, timeout=timedelta(seconds=20))


@pytest.fixture
def begin(store, monkeypatch):
    """Begin to watch as one of the processes of torchrun, on a machine with a name."""
    begun = []

    def of(rank, host="here"):
        values = {"RANK": rank, "WORLD_SIZE": SIZE, "MASTER_ADDR": "localhost",
                  "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}  # fmt: skip
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(processes.socket, "gethostname", lambda: host)
        peers = Peers()
        peers.meet()
        begun.append(peers)
        return peers

    yield of
    for peers in begun:
        peers.leave(_State.ENDED)
    time.sleep(3 * processes.BEAT_S)  # threads are gone before another test counts


@pytest.fixture
def ends(monkeypatch):
    """The processes that ended themselves."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    return ended


def stop(peers):
    """Make a process silent as one that was killed is."""
    peers._is_ending, peers._state = True, _State.ENDED
    peers._at_once.set()
    key = processes._SIGN.format(peers.rank)
    time.sleep(2 * processes.BEAT_S)
    sign = processes._Sign(10**6, _State.WORKS, peers._host)
    return key, sign


def silence(store, peers):
    key, sign = stop(peers)
    store.set(key, sign.encode())


def wait_until(is_so):
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_nobody_is_gone_while_all_count(begin, ends):
    peers = [begin(rank) for rank in range(SIZE)]
    time.sleep(1.2 * processes.SILENT_S)
    assert ends == []
    assert all(len(own._signs) == SIZE for own in peers)


def test_a_silent_process_ends_all_others_and_the_first_on_each_machine_tells(
    store, begin, ends, capsys
):
    """Process 2 was killed: process 1 shares its machine, process 3 is alone on another."""
    peers = [begin(0, "a"), begin(1, "a"), begin(2, "b")]
    peers[0].advice = peers[2].advice = "continue."
    wait_until(lambda: all(len(own._signs) == SIZE for own in peers))
    silence(store, peers[1])
    wait_until(lambda: len(ends) == 2)
    told = capsys.readouterr().err
    assert ends == [2, 2]
    assert told.count("Process 2 of 3, on a, is gone or cannot be reached; continue.") == 2


def test_after_a_failed_operation_the_silent_process_is_named_sooner(store, begin, ends):
    peers = [begin(0, "a"), begin(1, "b"), begin(2, "a")]
    wait_until(lambda: all(len(own._signs) == SIZE for own in peers))
    silence(store, peers[1])
    began_s = time.monotonic()
    with pytest.raises(ProcessGoneError, match="Process 2 of 3, on b, is gone") as gone:
        peers[0].explain()
    assert time.monotonic() - began_s < processes.SILENT_S
    assert may_tell_end(gone.value)
    with pytest.raises(SystemExit):  # on the machine of the first, which tells
        peers[2].explain()


def test_an_error_of_ones_own_is_not_blamed_on_others(begin, ends):
    peers = [begin(rank) for rank in range(SIZE)]
    wait_until(lambda: all(len(own._signs) == SIZE for own in peers))
    peers[1].explain()


def test_who_fails_and_says_why_ends_the_others_without_another_word(begin, ends, capsys):
    peers = [begin(rank) for rank in range(SIZE)]
    wait_until(lambda: all(len(own._signs) == SIZE for own in peers))
    peers[0].leave(_State.FAILED)
    assert peers[1]._failed() == [0], "the first process waits until it is known"
    with pytest.raises(SystemExit) as stopped:
        peers[1].explain()
    assert stopped.value.code == 2
    wait_until(lambda: ends == [2])  # process 3, which met no error
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_process_that_never_begins_is_gone_after_the_time_to_begin(begin, ends, capsys):
    begin(0), begin(1)
    time.sleep(1.2 * processes.SILENT_S)
    assert ends == []
    wait_until(lambda: len(ends) == 2)
    assert capsys.readouterr().err.count("Process 3 of 3 is gone") == 1


def test_one_process_alone_watches_nobody(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    with together() as peers:
        assert (peers.rank, peers.size) == (0, 1)
    with pytest.raises(RuntimeError, match="own"), together():
        raise RuntimeError("own")
    assert may_tell_end()
