"""Results, and how they are written down: as plain text, and as a table for the README."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One thing that is measured.

    :param unit: empty where it could not be measured.
    """

    title: str
    unit: str
    higher_is_better: bool = True

    def __str__(self) -> str:
        if not self.unit:
            return self.title
        better = "more" if self.higher_is_better else "less"
        return f"{self.title} ({self.unit}, {better} is better)"


@dataclass
class Result:
    """What the rounds gave for one server, or the reason why there is nothing."""

    values: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def median(self) -> float | None:
        """None where a round gave nothing: what is left may be the lucky ones."""
        return statistics.median(self.values) if self.values and not self.reason else None


#: By figure, then by server, in the order in which they were measured.
Results = dict[Figure, dict[str, Result]]


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(row: dict[str, Result], server: str, reference: str) -> float | None:
    """How many times the reference's median a server's is."""
    own, other = row[server].median, row[reference].median if reference in row else None
    return None if own is None or not other else own / other


def as_text(results: Results, reference: str) -> str:
    """A block for each figure, a line for each server."""
    lines = []
    for figure, row in results.items():
        lines.append(str(figure))
        for server, result in row.items():
            if (median := result.median) is None:
                lines.append(f"    {server:24} {result.reason}")
                continue
            times = ratio(row, server, reference)
            spread = f"{number(min(result.values))} to {number(max(result.values))}"
            against = f"{number(times)} x" if times is not None else ""
            lines.append(f"    {server:24} {number(median):>9} {against:>9}   ({spread})")
        lines.append("")
    return "\n".join(lines)


def as_rst(results: Results, reference: str) -> str:
    """A list-table: a row for each figure, a column for each server, reasons below it.

    The reference's cells have the medians; those of the others, how many times that
    theirs are.
    """
    servers = list(dict.fromkeys(server for row in results.values() for server in row))
    rows = [[figure.title, *_cells(results, figure, servers, reference)] for figure in results]
    return "\n".join([*_list_table([["", *servers], *rows]), "", *_reasons(results), ""])


def _cells(
    results: Results, figure: Figure, servers: Iterable[str], reference: str
) -> Iterable[str]:
    row = results[figure]
    for server in servers:
        if server not in row or (median := row[server].median) is None:
            yield "none"
        elif server == reference or (times := ratio(row, server, reference)) is None:
            yield f"{number(median)} {figure.unit}"
        else:
            yield f"{number(times)} x"


def _list_table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    for row in rows:
        for first, cell in enumerate(row):
            yield f"   {'  -' if first else '* -'} {cell}".rstrip()


def _reasons(results: Results) -> Iterable[str]:
    """Every server that gave nothing, once for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for figure, row in results.items():
        for server, result in row.items():
            if result.reason:
                found.setdefault((server, result.reason), []).append(figure.title)
    for (server, reason), titles in found.items():
        yield f"* {server}: {reason} ({'; '.join(titles)})"
