"""llama.cpp with a GGUF file, keys and values in float32. A unit is a text."""

import itertools

import llama_cpp
from baton import Baton, options
from llama_cpp import Llama

F32 = 0  # GGML_TYPE_F32, for keys and values; the default is float16
default_parameters = llama_cpp.llama_cpp.llama_model_default_params


def without_repacking() -> object:
    """Return llama.cpp's parameters without extra buffers: its AMX kernels crash in some virtual machines."""
    parameters = default_parameters()
    parameters.use_extra_bufts = False
    return parameters


llama_cpp.llama_cpp.llama_model_default_params = without_repacking


def main() -> None:
    """Continue a prompt again and again."""
    o = options()
    model = Llama(
        o["model"],
        n_ctx=len(o["ids"]) + o["tokens"] + 8,
        type_k=F32,
        type_v=F32,
        n_threads=o["threads"],
        n_threads_batch=o["threads"],
        verbose=False,
    )
    baton = Baton()
    baton.versions(llama_cpp_python=llama_cpp.__version__)
    while True:
        model.reset()
        tokens = model.generate(o["ids"], top_k=1, temp=0.0, repeat_penalty=1.0)
        if len(list(itertools.islice(tokens, o["tokens"]))) != o["tokens"]:
            raise SystemExit("fewer tokens generated than requested")
        baton.lap()


main()
