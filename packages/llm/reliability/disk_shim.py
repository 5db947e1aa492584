"""Fault injection for file-system calls: record, refuse, or crash at any call that changes the disk.

The shim replaces the functions of `os` that change a disk, which every other function of Python calls: it needs no mount
and no root privileges.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_CHANGING = ("open", "write", "fsync", "replace", "rename", "link", "mkdir", "rmdir", "unlink")


@dataclass(frozen=True)
class DiskCall:
    """A call that changes the disk.

    Attributes
    ----------
    number : int
        Counted from 0.
    name : str
        Name of the function in `os`; an ``open`` counts if it may create the file.
    path : str
        Path that it changes or syncs.
    """

    number: int
    name: str
    path: str


def _nothing(_call: DiskCall) -> None:
    return


class DiskShim:
    """Context manager that intercepts every call of one thread that changes something below a folder.

    Parameters
    ----------
    root : Path
    before, after : callable
        Called with each `DiskCall` before and after it. If `before` raises, the call raises that error.

    Attributes
    ----------
    calls : list of DiskCall

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from disk_shim import DiskShim
    >>> with tempfile.TemporaryDirectory() as folder, DiskShim(Path(folder)) as shim:
    ...     (Path(folder) / "a").mkdir()
    >>> [call.name for call in shim.calls]
    ['mkdir']
    """

    def __init__(
        self,
        root: Path,
        *,
        before: Callable[[DiskCall], object] = _nothing,
        after: Callable[[DiskCall], object] = _nothing,
    ) -> None:
        self.calls: list[DiskCall] = []
        self._root = os.path.realpath(root)
        self._before, self._after = before, after
        self._originals: dict[str, Callable[..., Any]] = {}
        self._open_paths: dict[int, str] = {}

    def __enter__(self) -> Self:
        for name in _CHANGING:
            original = self._originals[name] = getattr(os, name)
            setattr(os, name, self._intercepted(name, original))
        return self

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(os, name, original)

    def _intercepted(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            path = self._path(args[0], kwargs.get("dir_fd"))
            changes = name != "open" or args[1] & os.O_CREAT
            if not changes or not path.startswith(self._root):
                result = original(*args, **kwargs)
            else:
                event = DiskCall(len(self.calls), name, path)
                self.calls.append(event)
                self._before(event)
                try:
                    result = original(*args, **kwargs)
                finally:  # also after an error of the system
                    self._after(event)
            if name == "open":
                self._open_paths[result] = path
            return result

        return call

    def _path(self, target: Any, folder: int | None) -> str:
        """Return the path of a name or of an open file."""
        if isinstance(target, int):
            link = Path(f"/proc/self/fd/{target}")
            return str(link.readlink()) if link.is_symlink() else self._open_paths.get(target, "")
        name = os.fsdecode(target)
        if folder is not None:
            return f"{self._path(folder, None)}/{name}"
        return str(Path(name).parent.resolve() / Path(name).name)
