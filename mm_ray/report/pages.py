"""Pages from templates: each is one html file that contains its style, its figures and plotly.js.

plotly.js makes a page about 5 MB, once; in return every figure can be hovered, zoomed and saved as SVG without a network.
"""

import math
from itertools import count
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mm_ray.evaluate.statistics import spread_text

FIGURE_SETTINGS = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "svg"}}
NONE = "–"


def render(template: str, **content: Any) -> str:
    """A page.

    Args:
        template: A file in `templates/`.
        content: What it shows: numbers, text (which is escaped), and figures of plotly or the sentences in their place.

    """
    numbers = count(1)

    def draw(figure: go.Figure) -> Markup:
        drawn = figure.to_html(
            full_html=False, include_plotlyjs=False, config=FIGURE_SETTINGS, div_id=f"figure-{next(numbers)}"
        )
        return Markup(drawn)  # plotly escapes what stands in a script

    environment = Environment(
        loader=PackageLoader("mm_ray.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "draw": draw,
        "score": score_text,
        "number": number_text,
        "spread": _spread,
        "megabytes": lambda num_bytes: f"{num_bytes / 1e6:,.1f} MB",
    }
    return environment.get_template(template).render(plotly_js=Markup(get_plotlyjs()), **content) + "\n"


def score_text(value: float | None, sign: str = "") -> str:
    """A score with three digits, with its sign if `sign` is `+`; a dash for None and NaN."""
    return NONE if value is None or math.isnan(value) else f"{value:{sign}.3f}"


def number_text(value: Any) -> str:
    """A setting or a measurement, to three digits unless it is a whole number; a dash for None."""
    if isinstance(value, float):
        return NONE if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return NONE if value is None else str(value)


def _spread(values: Any) -> str:
    """A score, or the mean of several with their spread and number."""
    if not isinstance(values, list | tuple):
        return score_text(values)
    known = [value for value in values if value is not None]
    return spread_text(known) if known else NONE
