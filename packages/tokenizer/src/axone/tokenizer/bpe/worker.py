"""A process that counts pieces for `count`: run as ``python -m axone.tokenizer.bpe.worker``.

Lines of JSON come in and go out, ASCII only. The first line in is the pattern, answered by a line when all is loaded; each further line is
a list of texts; at the end of input one line gives the counts, or the sentence of what went wrong.
"""

import json
import sys
from collections import Counter

from axone.tokenizer.bpe.patterns import pre_tokenizer
from axone.tokenizer.protocol import TokenizerError


def main() -> None:
    """Count until the input ends."""
    splitter = pre_tokenizer(json.loads(sys.stdin.buffer.readline()))
    _answer("ready")
    counts: Counter[str] = Counter()
    try:
        for line in sys.stdin.buffer:
            for text in json.loads(line):
                counts.update(splitter.split(text))
    except TokenizerError as error:
        _answer(str(error))
    else:
        _answer(counts)


def _answer(value: object) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
