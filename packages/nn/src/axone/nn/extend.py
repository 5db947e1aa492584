"""Public interface for packages that build on axone.nn beyond its layers."""

from axone.nn.arena import Arena, flatten

__all__ = ["Arena", "flatten"]
