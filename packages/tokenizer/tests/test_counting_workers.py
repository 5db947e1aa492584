"""Tests of the worker processes: same counts as one process, and no process is left after a failure."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from axone.tokenizer import BPETokenizer, TokenizerError
from axone.tokenizer.bpe import counting_workers
from axone.tokenizer.bpe import train as module


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[counting_workers.Process]:
    """Start workers at the first block, and record their processes."""
    found: list[counting_workers.Process] = []
    start = counting_workers._start

    def recording_start(number: int) -> list[counting_workers.Process]:
        found.extend(start(number))
        return found

    monkeypatch.setattr(counting_workers, "_start", recording_start)
    monkeypatch.setattr(counting_workers, "available_cores", lambda: 2)
    monkeypatch.setattr(module, "_LOCAL_SECONDS", -1.0)
    monkeypatch.setattr(module, "_JOINED", 100)
    return found


def all_ended(started: list[counting_workers.Process]) -> bool:
    feeders = [thread for thread in threading.enumerate() if "_feed" in thread.name]
    return len(started) == 2 and None not in [process.returncode for process in started] and not feeders


@pytest.mark.parametrize("pattern", ["gpt2", r"\w+", None])
def test_merges_equal_those_of_one_process(
    pattern: str | None, corpus: str, monkeypatch: pytest.MonkeyPatch, started: list[counting_workers.Process]
) -> None:
    texts = [*corpus.splitlines(keepends=True)[:200], "", "aé文😀\x00<|end|>"]
    merges = BPETokenizer.train(texts, 400, pattern=pattern, special_tokens=["<|end|>"]).merges
    assert all_ended(started)
    assert [process.returncode for process in started] == [0, 0]
    monkeypatch.setattr(module, "_LOCAL_SECONDS", 1e9)
    assert BPETokenizer.train(texts, 400, pattern=pattern, special_tokens=["<|end|>"]).merges == merges


def test_blocks_may_be_counted_before_workers_start(
    corpus: str, monkeypatch: pytest.MonkeyPatch, started: list[counting_workers.Process]
) -> None:
    ticks = iter(range(10**9))
    monkeypatch.setattr(module, "_LOCAL_SECONDS", 5.0)
    monkeypatch.setattr("axone.tokenizer.bpe.train.time.thread_time", lambda: next(ticks))
    lines = corpus.splitlines(keepends=True)
    merges = BPETokenizer.train(lines, 400).merges
    assert all_ended(started)
    monkeypatch.setattr(module, "_LOCAL_SECONDS", 1e12)
    assert BPETokenizer.train(lines, 400).merges == merges


def test_counting_works_if_no_process_can_be_started(
    corpus: str, monkeypatch: pytest.MonkeyPatch, started: list[counting_workers.Process]
) -> None:
    merges = BPETokenizer.train(corpus, 400).merges

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    started.clear()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert BPETokenizer.train(corpus, 400).merges == merges
    assert started == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_process_is_left_when_training_is_interrupted(
    error: type[BaseException], started: list[counting_workers.Process]
) -> None:
    def texts() -> Iterator[str]:
        for _ in range(50):
            yield "some words " * 100
        raise error

    with pytest.raises(error):
        BPETokenizer.train(texts(), 300)
    assert all_ended(started)


def test_a_worker_reports_a_slow_pattern(
    monkeypatch: pytest.MonkeyPatch, started: list[counting_workers.Process]
) -> None:
    hurry = "from axone.tokenizer.bpe import patterns; patterns._SECONDS = 0.05; "
    monkeypatch.setattr(counting_workers, "_PROGRAM", hurry + counting_workers._PROGRAM)
    texts = ("a" * 80 + "!" for _ in range(50))
    with pytest.raises(TokenizerError, match="for a text of 81 characters"):
        BPETokenizer.train(texts, 300, pattern=r"(\w|\w\w)+\z")
    assert all_ended(started)


def test_a_worker_that_dies_is_an_error(started: list[counting_workers.Process]) -> None:
    def texts() -> Iterator[str]:
        for i in range(10_000):
            yield f"some words {i} " * 100
            if i == 20:
                started[1].kill()

    with pytest.raises(ChildProcessError, match="worker process that counts pieces died with status"):
        BPETokenizer.train(texts(), 300)
    assert all_ended(started)


def test_a_worker_without_a_parent_exits_silently() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", counting_workers._PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    counting_workers._write(process.stdin, b"null")
    assert process.communicate(b"half a length"[:4]) == (b"", b"")
    assert process.returncode == counting_workers._ORPHANED


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from axone.tokenizer import BPETokenizer\n"
        "from axone.tokenizer.bpe import counting_workers, train\n"
        "train._LOCAL_SECONDS, counting_workers.available_cores = -1.0, lambda: 2\n"
        "print(BPETokenizer.train(('word%d ' % i for i in range(20_000)), 300).vocab_size)\n",
        encoding="utf-8",
    )
    finished = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    assert finished.stdout.split() == ["once", "300"]
    assert finished.stderr == ""
