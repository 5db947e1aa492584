"""Memory bandwidth: threads sum parts of an array of a gigabyte. A unit is several sums of the whole array."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from baton import Baton, options

BYTES = 1 << 30


def main() -> None:
    o = options()
    parts = np.split(np.ones(BYTES // 4, np.float32), o["threads"])
    baton = Baton()
    baton.versions(numpy=np.__version__)
    with ThreadPoolExecutor(o["threads"]) as pool:
        while True:
            for _ in range(o["readings"]):
                list(pool.map(np.sum, parts))
            baton.lap()


main()
