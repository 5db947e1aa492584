"""State before each page of the gallery: figures with letters that are legible on a phone, a small heap, one thread."""

import gc
from typing import Any

import matplotlib as mpl
from threadpoolctl import threadpool_limits


def reset(gallery_conf: dict[str, Any], script: str) -> None:  # noqa: ARG001 - sphinx-gallery calls it so
    """Set the style before each page, after sphinx-gallery has set matplotlib's defaults."""
    gc.freeze()  # otherwise each collection visits Sphinx's objects, and a page of Values takes several times as long
    threadpool_limits(1)  # matrices of the pages are so small that threads only wait for each other
    mpl.rcParams |= {"font.size": 12, "legend.fontsize": 11, "figure.max_open_warning": 0}
