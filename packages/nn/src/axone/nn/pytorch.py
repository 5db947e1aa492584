"""Names of PyTorch that axone.nn lacks, each with the name that does the same here.

An AttributeError or TypeError for one of them says what to write instead.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NoReturn

LAYERS = {
    "MultiheadAttention": "use nn.MultiHeadAttention",
    "TransformerEncoder": "use nn.Transformer",
    "TransformerDecoder": "use nn.Transformer",
    "TransformerEncoderLayer": "use nn.TransformerBlock",
    "TransformerDecoderLayer": "use nn.TransformerBlock",
    "ModuleList": "assign a list: modules are found in it",
    "ModuleDict": "assign attributes, or a dict with self.parts[name]: modules are found in both",
    "ParameterList": "assign a list: Parameters are found in it",
    "ParameterDict": "assign a dict: Parameters are found in it",
    "Identity": "use nn.Sequential() without layers",
    "Softmax": "use the function nn.functional.softmax",
    "LogSoftmax": "use the function axone.autograd.log_softmax",
    "LeakyReLU": "use the function axone.autograd.leaky_relu",
    "Flatten": "use Tensor.reshape",
    "CrossEntropyLoss": "use the function nn.functional.cross_entropy",
    "NLLLoss": "use the function nn.functional.cross_entropy, which takes logits",
    "MSELoss": "use the function nn.functional.mse_loss",
    "utils": "clip_grad_norm is in axone.autograd.optim",
}
FUNCTIONS = {
    "sigmoid": "use axone.autograd.sigmoid",
    "tanh": "use axone.autograd.tanh",
    "leaky_relu": "use axone.autograd.leaky_relu",
    "log_softmax": "use axone.autograd.log_softmax",
    "nll_loss": "use cross_entropy, which takes logits",
    "pad": "use axone.autograd.pad",
    "one_hot": "use numpy.eye(V)[ids]; cross_entropy takes the ids themselves",
}
INITIALIZERS = {
    "normal_": "use nn.init.normal(parameter, std=..., rng=rng)",
    "uniform_": "use nn.init.uniform(parameter, bound=..., rng=rng)",
    "zeros_": "use nn.init.constant(parameter, 0)",
    "ones_": "use nn.init.constant(parameter, 1)",
    "constant_": "use nn.init.constant",
    "trunc_normal_": "use nn.init.truncated_normal",
    "xavier_uniform_": "use nn.init.xavier",
    "xavier_normal_": "use nn.init.xavier",
    "kaiming_uniform_": "use nn.init.kaiming",
    "kaiming_normal_": "use nn.init.kaiming",
}
METHODS = {
    "forward": "call the module itself, as in model(x)",
    "to": "use astype(dtype) for another dtype; there are no devices",
    "cpu": "leave it out: arrays are in main memory",
    "cuda": "leave it out: arrays are in main memory",
    "float": "use astype(numpy.float32)",
    "double": "use astype(numpy.float64)",
    "half": "use astype(numpy.float16)",
    "children": "use modules(), which yields the module and all modules below it",
    "named_children": "use named_modules(), which yields the module and all modules below it",
    "apply": "loop over modules()",
    "requires_grad_": "set requires_grad of each of parameters()",
    "register_buffer": "assign the array as an attribute",
    "register_parameter": "assign the Parameter as an attribute",
    "register_module": "assign the module as an attribute",
    "add_module": "assign the module as an attribute",
}
ARGUMENTS = {
    "device": "leave it out, because arrays are in main memory",
    "dtype": "call astype(dtype) on the module",
    "inplace": "leave it out, because operations return new Tensors",
    "batch_first": "leave it out, because the batch always comes first",
    "normalized_shape": "pass dim, the length of the last axis",
    "elementwise_affine": "leave it out; bias=False omits the shift",
}


KEYWORDS = {
    "attn_mask": "use mask",
    "dim": "use axis",
    "dropout_p": "leave it out, because attention has no dropout; MultiHeadAttention has it",
    "inplace": ARGUMENTS["inplace"],
    "is_causal": "use causal",
    "reduction": "leave it out, because the result is the mean",
    "training": "leave it out, and call the function in training only",
}
"""Arguments of PyTorch's functions."""


def missing_layer(name: str) -> NoReturn:
    """Raise the AttributeError for a name that axone.nn lacks."""
    raise AttributeError(_with_hint(f"module 'axone.nn' has no attribute {name!r}", LAYERS.get(name)))


def missing_function(name: str) -> NoReturn:
    """Raise the AttributeError for a name that axone.nn.functional lacks."""
    raise AttributeError(_with_hint(f"module 'axone.nn.functional' has no attribute {name!r}", FUNCTIONS.get(name)))


def missing_initializer(name: str) -> NoReturn:
    """Raise the AttributeError for a name that axone.nn.init lacks."""
    raise AttributeError(_with_hint(f"module 'axone.nn.init' has no attribute {name!r}", INITIALIZERS.get(name)))


def unknown_argument(function: str, arguments: Mapping[str, object]) -> TypeError:
    """Return the error for keyword arguments that a function lacks."""
    name = next(iter(arguments))
    return TypeError(_with_hint(f"{function}() got an unexpected keyword argument {name!r}", KEYWORDS.get(name)))


def check_arguments(cls: type, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Refuse options of PyTorch's layers that a class does not take, and any argument of a class without `__init__`.

    Raises
    ------
    TypeError
        With what to write instead.
    """
    constructor: Any = cls.__init__  # type: ignore[misc]  # of this very class
    for name in options.keys() & ARGUMENTS.keys():
        if constructor is object.__init__ or not _takes(constructor, name):
            raise TypeError(f"{cls.__name__} takes no argument {name!r}: {ARGUMENTS[name]}")
    if constructor is object.__init__ and (arguments or options):
        raise TypeError(f"{cls.__name__}() takes no arguments")


def _takes(function: Any, name: str) -> bool:
    """Return whether a function takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def check_forward(cls: type) -> None:
    """Refuse a class that defines `forward` for a `__call__` that never calls it.

    Raises
    ------
    TypeError
        With what to write instead.
    """
    if "forward" in vars(cls) and "__call__" not in vars(cls):
        caller = next((base for base in cls.__mro__ if "__call__" in vars(base)), None)
        if caller is None or caller.__module__.startswith("axone.nn."):
            raise TypeError(f"{cls.__name__} defines forward(), which nothing calls: name it __call__")


def _with_hint(message: str, hint: str | None) -> str:
    return f"{message}: {hint}" if hint else message
