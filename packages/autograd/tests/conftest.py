"""What pytest shall leave alone: scripts that ask a peer, which the environment does not have."""

collect_ignore = ["frozen"]
