"""Temporary names, leftovers, links, and files that are not regular."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from axone.llm import CheckpointError, RunBusyError
from axone.llm.storage.atomic import new_folder, replacing_file, require_creatable, temporary_path, write_file
from axone.llm.storage.lock import locked
from axone.llm.storage.regular import read_json, sha256
from axone.llm.storage.safetensors import read_arrays

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs, and opens no folders")

KILLED = """
import os, sys
from pathlib import Path
from axone.llm.storage.atomic import new_folder, replacing_file
with new_folder(Path(sys.argv[1]) / "run"), replacing_file(Path(sys.argv[1]) / "file", 0):
    os._exit(0)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@posix
def test_leftovers_of_ended_processes_are_removed_by_the_next_write(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True)
    assert len(names(tmp_path)) == 2
    with new_folder(tmp_path / "run"):
        pass
    write_file(tmp_path / "file", b"new")
    assert names(tmp_path) == ["file", "run"]


def test_temporary_files_of_a_living_writer_are_kept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "run") as folder, replacing_file(tmp_path / "file", 0) as file:
        (folder / "mine").touch()
        file.write(b"first")
        with new_folder(tmp_path / "run"):
            pass
        write_file(tmp_path / "file", b"second")
        assert (folder / "mine").exists()
        (tmp_path / "run").rmdir()
    assert (tmp_path / "file").read_bytes() == b"first"
    assert (tmp_path / "run" / "mine").exists()


@posix
def test_a_name_that_begins_alike_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    others = [temporary_path(tmp_path / "lr10"), temporary_path(tmp_path / "lr1.5")]
    others += [tmp_path / ".lr1-precious.tmp", tmp_path / ".lr1.tmp", tmp_path / ".lr1.12.tmp"]
    for other in others:
        other.mkdir()
    own = temporary_path(tmp_path / "lr1")
    own.mkdir()
    with new_folder(tmp_path / "lr1"):
        assert not own.exists()
    assert names(tmp_path) == sorted([*(other.name for other in others), "lr1"])


@posix
def test_a_trial_folder_may_be_removed_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, folders = os.mkdir, []

    def mkdir(path: Path, *options: int) -> None:
        original(path, *options)
        folders.append(path)
        if len(folders) == 1:
            with new_folder(tmp_path / "run"):  # as another process, which removes leftovers
                pass
            (tmp_path / "run").rmdir()

    monkeypatch.setattr(os, "mkdir", mkdir)
    require_creatable(tmp_path / "run")
    assert names(tmp_path) == []


def test_a_write_replaces_a_link_and_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious", encoding="utf-8")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "link").is_symlink()


def test_two_writers_of_one_folder_get_one_sentence_each(tmp_path: Path) -> None:
    first = new_folder(tmp_path / "run")
    (first.__enter__() / "mine").touch()
    with new_folder(tmp_path / "run") as second:
        (second / "its").touch()
    with pytest.raises(FileExistsError, match="exists already"):
        first.__exit__(None, None, None)
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["its"]


def test_a_folder_that_is_replaced_is_whole_at_every_moment(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "old").touch()
    with new_folder(tmp_path / "run", overwrite=True) as folder:
        (folder / "new").touch()
        assert names(tmp_path / "run") == ["old"]
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["new"]


READERS: list[Callable[[Path], object]] = [read_json, sha256, read_arrays]


@posix
@pytest.mark.parametrize("read", READERS)
def test_a_fifo_or_a_device_is_refused_without_waiting(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), Path("/dev/null"), tmp_path):
        with pytest.raises(CheckpointError, match=r"cannot be read .(not a regular file|Is a directory)"):
            read(path)


@posix
def test_a_link_that_must_not_be_followed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "link").symlink_to("target")
    assert sha256(tmp_path / "link") == sha256(tmp_path / "target", follow_links=False)
    with pytest.raises(CheckpointError, match=r"link: cannot be read .symbolic link"):
        sha256(tmp_path / "link", follow_links=False)


@posix
def test_a_lock_that_is_a_link_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious", encoding="utf-8")
    (tmp_path / "link").symlink_to("target")
    os.link(tmp_path / "target", tmp_path / "hard")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "hard", "fifo"):
        with (
            pytest.raises(CheckpointError, match=f"{name}: (must be a regular file|is a hard link)"),
            locked(tmp_path / name),
        ):
            pass
    assert (tmp_path / "target").read_text(encoding="utf-8") == "precious"
    assert stat.S_ISFIFO((tmp_path / "fifo").lstat().st_mode)


def test_a_lock_whose_folder_was_replaced_is_not_held(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with locked(run / "lock") as lock:
        assert lock.is_held()
        run.rename(tmp_path / "old")
        assert not lock.is_held()
        run.mkdir()
        with locked(run / "lock") as other:
            assert other.is_held()
            assert not lock.is_held()
            with pytest.raises(RunBusyError), locked(run / "lock"):
                pass
    assert names(run) == []


def test_a_process_that_ends_leaves_the_lock_of_another_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "old").mkdir()
    with locked(run / "lock"):
        (run / "lock").rename(tmp_path / "old" / "lock")
        (run / "lock").write_text("1", encoding="utf-8")
    assert names(run) == ["lock"]


def test_a_lock_with_an_invalid_owner_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        (tmp_path / "lock").write_text("9" * 30, encoding="utf-8")
        with pytest.raises(RunBusyError, match="is being trained by process 99999"), locked(tmp_path / "lock"):
            pass
