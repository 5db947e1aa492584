"""Commands `axone train` and `axone finetune` on two ranks: one output, one run, and one sentence for a mistake."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from two_ranks import NoMPIError, launcher

from axone.llm import LanguageModel, LanguageModelConfig, ModelBundle, Run
from axone.tokenizer import CharTokenizer

APPS = Path(__file__).parents[3] / "apps"
TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 40
TINY = "--preset tiny --steps 4 --workers 1 --context-length 16"

Launch = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def launch(tmp_path: Path, cache: Path) -> Launch:
    """Return a function that runs an app on two ranks in an empty folder."""
    try:
        two_ranks = launcher()
    except NoMPIError as error:
        pytest.skip(str(error))
    (tmp_path / "hamlet.txt").write_text(TEXT, encoding="utf-8")

    def run(line: str) -> "subprocess.CompletedProcess[str]":
        name, *options = line.split()
        command = [*two_ranks, str(APPS / name), *options]
        environment = os.environ | {"AXONE_CACHE": str(cache)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    return run


def test_two_ranks_write_one_run(launch: Launch, tmp_path: Path) -> None:
    done = launch(f"train.py --data hamlet.txt {TINY} --shard-optimizer --tokenizer bpe --vocab-size 280")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 steps of 8 sequences, 2 ranks of 1 worker") == 1
    assert done.stdout.count("The run is in runs/hamlet-tiny") == 1
    assert "rank" not in done.stderr
    run = Run(tmp_path / "runs/hamlet-tiny")
    assert run.latest().training_state().environment["ranks"] == 2
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["hamlet-tiny"]
    again = launch("train.py --resume runs/hamlet-tiny")
    assert again.returncode == 0, again.stderr


def test_a_mistake_is_one_sentence_of_one_rank(launch: Launch, tmp_path: Path) -> None:
    done = launch(f"train.py --data hamlet.txt {TINY} --batch-size 7 --out run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "train.py: error: --batch-size (7) must be divisible by the number of ranks (2)\n"
    assert not (tmp_path / "run").exists()


def test_two_ranks_train_an_adapter(launch: Launch, tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train(TEXT)
    shape = LanguageModelConfig.llama(
        vocab_size=tokenizer.vocab_size,
        context_length=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        embed_dim=16,
        hidden_dim=32,
    )
    ModelBundle(LanguageModel(shape, rng=np.random.default_rng(0)), tokenizer).write(tmp_path / "base")
    lines = [json.dumps({"text": "to be or not to be"[i % 7 :]}) for i in range(24)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = launch("finetune.py base --data texts.jsonl --steps 4 --rank 2 --workers 1 --out run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("and to export it") == 1
    assert (tmp_path / "run/adapter/adapter_model.safetensors").exists()
