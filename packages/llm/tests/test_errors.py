"""The errors of axone.llm."""

import axone.llm
from axone.llm import AxoneError


def test_every_public_error_derives_from_the_common_base() -> None:
    public = [getattr(axone.llm, name) for name in axone.llm.__all__]
    errors = [each for each in public if isinstance(each, type) and issubclass(each, BaseException)]
    assert len(errors) >= 6
    assert all(issubclass(error, AxoneError) for error in errors)
