"""Style of the figures on the gallery's pages: letters that are legible on a phone."""

from typing import Any

import matplotlib as mpl


def reset(gallery_conf: dict[str, Any], script: str) -> None:  # noqa: ARG001 - sphinx-gallery calls it so
    """Set the style before each page, after sphinx-gallery has set matplotlib's defaults."""
    mpl.rcParams |= {"font.size": 12, "legend.fontsize": 11, "figure.max_open_warning": 0}
