"""RFC9113.rst: its tables have no holes, and the tests that they name exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS / "RFC9113.rst"

HEADER = ("Section", "Requirement", "Met by", "Covered by")
TEST = re.compile(r"``(tests/[a-z0-9_/]+\.py)::(?:(Test\w+)::)?(test_\w+)``")
EXCUSE = re.compile(r"Not applicable: .+\.|Not met: deviation \d+\.")


class Row(NamedTuple):
    """One row of a table, of the cells' text in one line each."""

    section: str
    requirement: str
    met_by: str
    covered_by: str


def tables() -> dict[str, list[Row]]:
    """The rows under each title, without the tables' headers."""
    found: dict[str, list[Row]] = {}
    title = ""
    lines = TABLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if line and set(line) <= set("=-"):
            title = lines[number - 1]
        elif line.startswith("   * - "):
            found.setdefault(title, []).append(row(lines, number))
    return {title: body(rows) for title, rows in found.items()}


def row(lines: list[str], start: int) -> Row:
    cells: list[str] = []
    for line in lines[start:]:
        if line.startswith(("   * - ", "     - ")):
            if cells and line[3] == "*":
                break
            cells.append(line[7:])
        elif line.startswith("       "):
            cells[-1] += " " + line.strip()
        else:
            break
    assert len(cells) == len(HEADER), f"line {start + 1}: {cells}"
    return Row(*map(str.strip, cells))


def body(rows: list[Row]) -> list[Row]:
    assert rows[0] == HEADER
    return rows[1:]


ROWS = [row for rows in tables().values() for row in rows]


@functools.cache
def names(path: Path) -> set[tuple[str, str]]:
    """The tests of a file, as (class or "", function)."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = node.name if isinstance(node, ast.ClassDef) else ""
        found |= {(owner, each.name) for each in inside if isinstance(each, ast.FunctionDef)}
    return found


def test_there_is_a_table_for_every_section() -> None:
    sections = {row.section.split(".")[0] for row in ROWS}
    assert sections >= {str(number) for number in range(3, 11)}
    assert {title.partition(",")[0].partition(":")[0] for title in tables()} == {
        "RFC 9113",
        "RFC 7541",
        "RFC 9218",
    }
    marked = [line for line in TABLE.read_text().splitlines() if line.startswith("   * - ")]
    assert len(marked) == len(ROWS) + len(tables())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section} {row.requirement[:50]}")
def test_a_row(row: Row) -> None:
    assert re.fullmatch(r"\d+(\.\d+)*(, \d+(\.\d+)*)*", row.section)
    assert row.requirement and row.met_by
    if EXCUSE.fullmatch(row.covered_by):
        assert row.met_by == "none"
        return
    assert TEST.sub("", row.covered_by).strip() == ""
    for path, owner, name in TEST.findall(row.covered_by):
        assert (owner, name) in names(TESTS.parent / path), f"{path} has no {name}"


def test_the_deviations_that_are_referred_to_are_explained() -> None:
    _, _, explained = TABLE.read_text().partition("\nDeviations\n")
    numbers = set(re.findall(r"^(\d+)\. ", explained, re.MULTILINE))
    assert set(re.findall(r"deviation (\d+)", " ".join(map(" ".join, ROWS)))) <= numbers
