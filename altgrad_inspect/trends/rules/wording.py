"""How messages name what a series is about."""

from altgrad_inspect.display import display_name
from altgrad_inspect.trends.series import Series


def display_matrix(series: Series) -> str:
    """Return the layer fit to print, with the index of the matrix in a stack if it is not 0."""
    return display_name(series.layer) + (f"[{series.matrix}]" if series.matrix else "")


def display_metric(series: Series) -> str:
    """Return the metric in words."""
    return series.metric.replace("_", " ")
