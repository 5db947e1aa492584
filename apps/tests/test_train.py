"""apps/train.py: a run from end to end, and every way to get it wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shakespeare
import train

App = Callable[[Callable[[], int], str], int]
TRAIN = Path(train.__file__)


def test_it_trains_and_says_what_to_do_next(
    app: App, text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 5") == 0
    out, err = capfd.readouterr()
    for line in (
        r"model +[\d,]+ parameters, context 64 tokens",
        r"corpus +3,\d+ tokens of \d+ kinds",
        r"estimate +\d+ s, \d+ MB",
        r"validation loss \d\.\d+ nats a token",
        r"counted pairs +\d\.\d+ nats a token",
        r"uv run apps/sample.py runs/hamlet-tiny",
    ):
        assert re.search(line, out), line
    assert "step 5: validation loss" in err
    run = tmp_path / "runs" / "hamlet-tiny"
    assert {path.name for path in run.iterdir()} == {"run.json", "metrics.jsonl", "loss.png", "checkpoints", "data"}


def test_a_second_run_gets_a_folder_of_its_own(app: App, text_file: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert app(train.main, f"train.py --data {text_file} --preset tiny --steps 1") == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["hamlet-tiny", "hamlet-tiny-2"]


def test_it_starts_from_the_weights_of_another(
    app: App, text_file: Path, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"train.py --data {text_file} --preset tiny --steps 1 --init {trained} --out second"
    assert app(train.main, line) == 0
    assert "uv run apps/sample.py second" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--data missing.txt", "is not there"),
        ("--data empty.txt", "is empty"),
        ("--data folder", "holds none"),
        ("--data latin.txt", "must be UTF-8"),
        ("--data short.txt --preset tiny", "more tokens than the context of 64"),
        ("--data hamlet.txt --preset huge", "a preset is one of"),
        ("--data hamlet.txt --preset tiny --steps -5", "steps must be at least 1, and is -5"),
        ("--data hamlet.txt --preset tiny --workers 0", "workers must be at least 1"),
        ("--data hamlet.txt --preset tiny --seed -1", "seed must not be negative"),
        ("--data hamlet.txt --preset tiny --steps many", "invalid int value: 'many'"),
        ("--data hamlet.txt --preset tiny --out taken", "exists: resume it, overwrite it, or name another"),
        ("--data hamlet.txt --preset tiny --out hamlet.txt --overwrite", "is none: name another folder"),
        ("--data hamlet.txt --preset tiny --init folder", "is no model"),
        ("--resume folder", "cannot be read"),
        ("--resume taken --steps 5", "--resume takes everything from the run"),
        ("--unknown", "unrecognized arguments"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(
    app: App, text_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: str, reason: str
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "short.txt").write_text("a few words", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert app(train.main, f"train.py {arguments}") == 2
    out, err = capfd.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("train.py: error: ")
    assert reason in last
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_network_the_download_says_so(
    app: App, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> Path:
        return shakespeare.download("http://127.0.0.1:9/input.txt", cache=tmp_path / "cache")

    monkeypatch.setattr(train, "download", unreachable)
    assert app(train.main, "train.py --data shakespeare") == 2
    assert "could not be downloaded" in capfd.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.txt"))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_saves_and_resume_goes_on(text_file: Path) -> None:
    folder = text_file.parent
    command = [sys.executable, str(TRAIN), "--data", str(text_file), "--preset", "tiny", "--out", "run"]
    with subprocess.Popen(
        [*command, "--steps", "100000"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        metrics = folder / "run" / "metrics.jsonl"
        while not metrics.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    text = out.decode()
    assert re.search(r"Stopped after step \d+; everything is saved in run", text)
    assert "uv run apps/train.py --resume run" in text
    assert b"Traceback" not in err

    options = folder / "run" / "run.json"
    stopped = re.search(r"step (\d+)", text)
    assert stopped is not None
    # So that the rest takes no time: a run of just one more step.
    last = str(int(stopped.group(1)) + 1)
    options.write_text(options.read_text(encoding="utf-8").replace("100000", last), encoding="utf-8")
    resumed = subprocess.run(
        [sys.executable, str(TRAIN), "--resume", "run"], cwd=folder, capture_output=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr.decode()
    assert f"step {last}: validation loss" in resumed.stderr.decode()
