"""Export a model: a folder for transformers, or a GGUF file for llama.cpp.

axone export runs/NAME --to folder
axone export SmolLM2-135M-Instruct.Q4_1.gguf --to smollm2
axone export smollm2 --to smollm2.gguf --dtype q8_0
axone export smollm2 --adapter RUN/adapter --to tuned.gguf
"""

import argparse
from pathlib import Path

import numpy as np

from axone.cli import console
from axone.cli.adapter_options import add_adapter_options, open_with_adapter
from axone.cli.console import UserError
from axone.cli.invocation import CommandParser

EPILOG = """A folder holds config.json, model.safetensors and tokenizer.json in Hugging Face's layout: transformers opens the families
GPT-2, Llama, Qwen2 and Qwen3, and other models are for Axone alone. A GGUF file holds Llama, Qwen2 and Qwen3 with a subword
tokenizer. f32 keeps every bit, f16 halves the size, q8_0 quarters it (GGUF only).

Exit status: 0 success, 2 an error to mend, 130 interrupted.
"""
FOLDER_DTYPES = {"f32": np.float32, "f16": np.float16}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone export PATH --to FOLDER|FILE.gguf [options]",
        description=__doc__,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("path", type=Path, metavar="PATH", help="run, model folder or .gguf file")
    add_adapter_options(parser)
    add("--to", type=Path, required=True, metavar="PATH", help="new folder, or a file that ends in .gguf")
    add("--dtype", choices=("f32", "f16", "q8_0"), help="numbers of the matrices (default: f32; f16 for .gguf)")
    add("--overwrite", action="store_true", help="replace what is there")
    return parser.parse(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Open a model and write it; return the exit status."""
    options = parse(arguments)
    target, gguf = options.to, options.to.suffix.lower() == ".gguf"
    dtype = options.dtype or ("f16" if gguf else "f32")
    if not gguf and dtype not in FOLDER_DTYPES:
        raise UserError(f"--dtype ({dtype}) is for .gguf files: choose f32 or f16 for a folder")
    taken = target.is_file() or target.is_symlink() or (target.is_dir() and (gguf or any(target.iterdir())))
    if taken and not options.overwrite:
        raise UserError(f"{target} is there already: choose another name, or add --overwrite")
    bundle = open_with_adapter(options)
    try:
        if gguf:
            bundle.write_gguf(target, dtype=dtype)
        else:
            bundle.write(target, dtype=FOLDER_DTYPES[dtype])
    except ValueError as error:
        raise UserError(str(error)) from error
    files = [target] if gguf else [path for path in sorted(target.iterdir()) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    console.say(f"{target}: {len(files)} file{'s' * (len(files) > 1)}, {size / 1e6:,.1f} MB")
    return console.SUCCESS
