"""A bar chart as SVG, legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

from .report import Result, Results, number

_WIDTH = 760
_LABEL_WIDTH = 160
_BAR_WIDTH = 460
_BAR_HEIGHT = 16
_LINE = 22
_TITLE = 34

_TEXT = "#808790"
_OTHERS = "#9aa3ad"
_OURS = "#2f81f7"


def svg(results: Results, highlighted: str) -> str:
    """The chart: the figures below one another, a bar for each server's median."""
    parts: list[str] = []
    top = 0
    for figure, row in results.items():
        parts.append(_text(0, top + 22, str(figure), bold=True))
        top += _TITLE
        parts.extend(_bars(row, top, highlighted))
        top += _LINE * len(row) + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}"'
        f' width="{_WIDTH}" height="{top}" font-family="sans-serif" font-size="13">'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def _bars(row: dict[str, Result], top: int, highlighted: str) -> Iterable[str]:
    longest = max((result.median or 0 for result in row.values()), default=0)
    for server, result in row.items():
        ours = server == highlighted
        yield _text(_LABEL_WIDTH - 8, top + 13, server, bold=ours, end=True)
        width = 0.0
        if (median := result.median) is not None and longest:
            width = max(1.0, _BAR_WIDTH * median / longest)
            yield (
                f'<rect x="{_LABEL_WIDTH}" y="{top}" width="{width:.1f}"'
                f' height="{_BAR_HEIGHT}" rx="2" fill="{_OURS if ours else _OTHERS}"/>'
            )
        value = result.reason[:60] if median is None else number(median)
        yield _text(_LABEL_WIDTH + width + 6, top + 13, value, bold=ours)
        top += _LINE


def _text(x: float, y: int, text: str, *, bold: bool = False, end: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y}" fill="{_TEXT}"{weight}{anchor}>{escape(text)}</text>'
