"""Files that are there whole or not at all, and the formats in which they are written."""
