"""The callback interface: order of calls, closing, and errors."""

from pathlib import Path
from typing import Any

import pytest

from axone.llm import (
    Callback,
    EndEvent,
    LanguageModel,
    Run,
    StartEvent,
    StepEvent,
    TokenDataset,
    Trainer,
    TrainerConfig,
)

CONFIG = TrainerConfig(steps=4, batch_size=2, context_length=16, workers=1)


class Closes(Callback):
    """Records when it is closed, and raises the errors that it is given."""

    def __init__(self, name: str, closed: list[str], *, step: str = "", close: str = "") -> None:
        self._name, self._closed, self._step, self._close = name, closed, step, close

    def on_step(self, event: StepEvent) -> None:  # noqa: ARG002
        if self._step:
            raise OSError(self._step)

    def on_end(self, event: EndEvent) -> None:  # noqa: ARG002
        self._closed.append(f"end of {self._name}")

    def close(self) -> None:
        self._closed.append(self._name)
        if self._close:
            raise RuntimeError(self._close)


def fit(model: LanguageModel, dataset: TokenDataset, callbacks: list[Callback]) -> None:
    Trainer(model, *dataset.split(), CONFIG, callbacks).fit()


def test_callbacks_are_closed_in_reverse_order_at_the_end(model: LanguageModel, dataset: TokenDataset) -> None:
    closed: list[str] = []
    fit(model, dataset, [Closes("a", closed), Closes("b", closed)])
    assert closed == ["end of a", "end of b", "b", "a"]


def test_callbacks_are_closed_after_an_error_and_their_errors_do_not_hide_it(
    model: LanguageModel, dataset: TokenDataset
) -> None:
    closed: list[str] = []
    callbacks: list[Callback] = [
        Closes("a", closed),
        Closes("b", closed, close="closing b"),
        Closes("c", closed, step="the disk is full"),
    ]
    with pytest.raises(OSError, match="the disk is full") as caught:
        fit(model, dataset, callbacks)
    assert closed == ["c", "b", "a"]
    assert caught.value.__notes__ == ["Then Closes.close raised RuntimeError('closing b')."]


def test_an_error_in_closing_is_raised_after_the_others_are_closed(model: LanguageModel, dataset: TokenDataset) -> None:
    closed: list[str] = []
    with pytest.raises(RuntimeError, match="closing b"):
        fit(model, dataset, [Closes("a", closed), Closes("b", closed, close="closing b")])
    assert closed[-2:] == ["b", "a"]


class Raises(Callback):
    """Raises from one of its methods at a step."""

    def __init__(self, method: str, step: int, error: type[BaseException] = BrokenPipeError) -> None:
        self._step, self._error = step, error
        setattr(self, method, self._raise)

    def _raise(self, event: Any) -> None:
        if event.step >= self._step:
            raise self._error


@pytest.mark.parametrize("error", [BrokenPipeError, SystemExit])
@pytest.mark.parametrize(("method", "step"), [("on_step", 3), ("on_evaluation", 4), ("on_checkpoint", 2)])
def test_the_step_of_a_callback_that_raises_is_saved(
    model: LanguageModel,
    dataset: TokenDataset,
    tmp_path: Path,
    method: str,
    step: int,
    error: type[BaseException],
) -> None:
    """A broken pipe of the progress bar ended a training with nothing saved since the last checkpoint."""
    config = TrainerConfig(steps=4, batch_size=2, context_length=16, workers=1, save_every=2)
    run = tmp_path / "run"
    with pytest.raises(error):
        Trainer(model, *dataset.split(), config, [Raises(method, step, error)], run=run).fit()
    assert Run(run).latest().step == step
    assert Trainer.resume(run).fit().step == 4


def test_an_error_of_saving_after_one_of_a_callback_is_its_note(
    model: LanguageModel, dataset: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Run.save

    def full(run: Run, *arguments: Any) -> Any:
        if arguments[1].step == 3:
            raise OSError("the disk is full")
        return save(run, *arguments)

    monkeypatch.setattr(Run, "save", full)
    with pytest.raises(BrokenPipeError) as caught:
        Trainer(model, *dataset.split(), CONFIG, [Raises("on_step", 3)], run=tmp_path / "run").fit()
    assert caught.value.__notes__ == ["Then saving step 3 raised OSError('the disk is full')."]
    assert Run(tmp_path / "run").latest().step == 0


class Recorder:
    """Has some of the methods of a callback."""

    def on_start(self, event: StartEvent) -> None: ...

    def on_step(self, event: StepEvent) -> None: ...

    def on_evaluation(self, event: object) -> None: ...

    def on_end(self, event: object) -> None: ...


def test_a_callback_that_lacks_a_method_is_refused_before_training(model: LanguageModel, dataset: TokenDataset) -> None:
    closed: list[str] = []
    with pytest.raises(TypeError) as raised:
        fit(model, dataset, [Closes("a", closed), Recorder()])  # type: ignore[list-item]  # the point
    assert str(raised.value) == "Recorder lacks on_checkpoint, close of a callback: derive it from axone.llm.Callback"
    assert closed == []


def test_a_callback_with_all_methods_needs_no_base_class(model: LanguageModel, dataset: TokenDataset) -> None:
    class Whole(Recorder):
        closed = False

        def on_checkpoint(self, event: object) -> None: ...

        def close(self) -> None:
            self.closed = True

    whole = Whole()
    fit(model, dataset, [whole])
    assert whole.closed
