"""The package's door."""

import axone.llm


def test_every_public_name_is_there_and_sorted() -> None:
    assert all(hasattr(axone.llm, name) for name in axone.llm.__all__)
    assert len(set(axone.llm.__all__)) == len(axone.llm.__all__)
