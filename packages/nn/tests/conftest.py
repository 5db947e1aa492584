"""Scripts that pytest ignores: they import peers that the environment does not have."""

collect_ignore = ["frozen"]
