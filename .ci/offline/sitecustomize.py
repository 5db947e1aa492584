"""With this folder on PYTHONPATH, Python refuses to look up a host or connect to one: for what must work without a network."""

import sys


def _refuse(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(args[1], tuple)):
        raise OSError(f"no network here: {event} {args[1:]}")


sys.addaudithook(_refuse)
