"""What the fields of a configuration must be before their ranges are looked at: numbers, of Python's own kinds."""

from collections.abc import Iterable
from numbers import Integral, Real


def require_numbers(configuration: object, whole: Iterable[str], real: Iterable[str]) -> None:
    """See that fields hold numbers or None, and make those of NumPy Python's, which JSON can hold.

    Parameters
    ----------
    configuration : object
        It may be a frozen dataclass that is being made.
    whole, real : iterable of str
        Names of fields that hold whole numbers, and any real ones.

    Raises
    ------
    TypeError
        If a field holds anything else.
    """
    for name, what, kind, own in (
        *((name, "a whole number", Integral, int) for name in whole),
        *((name, "a number", Real, float) for name in real),
    ):
        value = getattr(configuration, name)
        if value is None or type(value) is own or (own is float and type(value) is int):
            continue
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{name} must be {what}, and is {value!r}: give it as {what}")
        object.__setattr__(configuration, name, own(value))
