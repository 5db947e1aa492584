"""The errors and warnings of axone.llm."""

from pathlib import Path

import numpy as np
import pytest

import axone.llm
from axone.llm import AxoneError, LanguageModel, LanguageModelConfig, Run, TokenDataset, Trainer, TrainerConfig, load


def test_every_public_error_derives_from_the_common_base() -> None:
    public = [getattr(axone.llm, name) for name in axone.llm.__all__]
    errors = [each for each in public if isinstance(each, type) and issubclass(each, BaseException)]
    assert len(errors) >= 6
    assert all(issubclass(error, AxoneError) for error in errors)


@pytest.fixture
def run(config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path) -> Path:
    """Return a run that another machine has trained, whose newest checkpoint is damaged."""
    training = TrainerConfig(steps=2, batch_size=2, context_length=16, eval_every=1, workers=1)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), training, run=tmp_path / "run").fit()
    options = tmp_path / "run" / "run.json"
    options.write_text(options.read_text(encoding="utf-8").replace('"workers": 1', '"workers": 2'), encoding="utf-8")
    (Run(tmp_path / "run").latest().path / "model.safetensors").write_bytes(b"")
    return tmp_path / "run"


def test_a_warning_points_to_the_line_of_the_caller_at_any_depth(run: Path) -> None:
    """Constant stack levels pointed into the library once a function was added between."""
    for read in (Run(run).latest, Run(run).best, lambda: load(run), lambda: Trainer.resume(run)):
        with pytest.warns(UserWarning, match="skipped a damaged checkpoint") as caught:
            read()
        assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="skipped a damaged checkpoint"):
        trainer = Trainer.resume(run)
    with pytest.warns(UserWarning, match="other bits than an uninterrupted one") as caught:
        trainer.fit()
    assert [warning.filename for warning in caught] == [__file__]
