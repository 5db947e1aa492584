"""Where a parameter lies in a file of weights."""

from dataclasses import dataclass

from axone.llm.storage.safetensors import Shape


@dataclass(frozen=True)
class Place:
    """Where a parameter lies in a file of weights.

    Attributes
    ----------
    name : str or None
        Ours; None for an array that the family has and our model does without, which must be zero.
    file_name : str
        The file's, in today's form.
    shape : tuple of int
        In the file.
    transposed : bool
        Whether ours is the transposed.
    """

    name: str | None
    file_name: str
    shape: Shape
    transposed: bool = False
