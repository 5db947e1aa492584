"""Public interface for packages that build on axone.nn beyond its layers."""

from axone.nn.arena import CACHE_LINE, Arena, flatten

__all__ = ["CACHE_LINE", "Arena", "flatten"]
