"""Audit hook that refuses network access: put this folder on PYTHONPATH to test that a command works offline."""

import sys


def _refuse(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(args[1], tuple)):
        raise OSError(f"network access is refused here: {event} {args[1:]}")


sys.addaudithook(_refuse)
