"""Paths that pytest skips: scripts that import PyTorch, which the workspace does not install."""

collect_ignore = ["frozen"]
