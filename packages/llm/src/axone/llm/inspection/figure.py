"""NotebookFigure: a matplotlib figure that a notebook shows as a picture without pyplot."""

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """Figure with the PNG representation that notebooks ask for."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
