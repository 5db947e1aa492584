"""Deferred signals: the first one is stored, ignored ones stay ignored, and handlers are restored."""

import os
import signal
import threading
import time

import pytest

from axone.llm.runtime.signals import SIGNALS, SignalRecorder, defer_signals, record_signals


def test_second_signal_ends_the_process_unless_it_repeats_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(os, "_exit", exits.append)
    signals = SignalRecorder()
    signals.handle(signal.SIGINT, None)
    now = 100.9  # a process group can receive one signal twice
    signals.handle(signal.SIGINT, None)
    assert (signals.number, exits) == (signal.SIGINT, [])
    now = 101.1
    signals.handle(signal.SIGTERM, None)
    signals.handle(signal.SIGINT, None)
    assert exits == [143, 130]


@pytest.mark.parametrize("ignored", SIGNALS)
def test_ignored_signal_stays_ignored(ignored: signal.Signals) -> None:
    other = signal.SIGTERM if ignored is signal.SIGINT else signal.SIGINT
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        with record_signals() as signals:
            signal.raise_signal(ignored)
            assert signals.number is None
            signal.raise_signal(other)
            assert signals.number == other
        assert signal.getsignal(ignored) is signal.SIG_IGN
    finally:
        signal.signal(ignored, before)


def test_deferred_signal_is_raised_at_the_end_of_the_block() -> None:
    seen, handler = list[str](), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), defer_signals(lambda: seen.append("arrived")):  # noqa: PT012 - the order matters
        signal.raise_signal(signal.SIGINT)
        seen.append("continued")
    assert seen == ["arrived", "continued"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_other_threads_keep_the_handlers() -> None:
    handler, seen = signal.getsignal(signal.SIGINT), list[object]()

    def record() -> None:
        with record_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=record)
    thread.start()
    thread.join()
    assert seen == [handler]
