"""Charts as SVG on the server: no script, no style attribute, so they pass the strict CSP, print, and work offline."""

import hashlib
import json
import re
from typing import Any

from django.core.cache import cache
from django.utils.safestring import SafeString, mark_safe

KEEP_S = 3600
#: Identifiers inside an SVG must differ between the charts of one page.
IDENTIFIER = re.compile(r'(\bid="|url\(#|href="#)')


def chart_svg(spec: dict[str, Any], *, label: str = "") -> SafeString:
    """The SVG of a Vega-Lite spec; drawn once for each different spec."""
    key = hashlib.sha256(json.dumps([spec, label], sort_keys=True, default=str).encode()).hexdigest()
    svg = cache.get(f"chart:{key}")
    if svg is None:
        svg = draw(spec, label=label, key=key[:8])
        cache.set(f"chart:{key}", svg, KEEP_S)
    return mark_safe(svg)  # noqa: S308 - made by vl-convert from our own spec; texts are escaped by it


def draw(spec: dict[str, Any], *, label: str, key: str) -> str:
    import vl_convert  # 180 MB and over a second at first use: only when a chart is asked for

    svg: str = vl_convert.vegalite_to_svg(spec, vl_version="5.20", config=THEME)
    svg = IDENTIFIER.sub(rf"\g<1>c{key}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


#: Colours are stand-ins: static/css/rmeval.css puts those of the reader's theme in their place.
THEME: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": "transparent"},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "gridColor": "#dddddd",
        "tickSize": 4,
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "orient": "top"},
}
