"""How things are shown on a terminal: aligned tables, relative times, nothing that a terminal would obey."""

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

_COLORS = {
    "succeeded": "green",
    "delivered": "green",
    "ok": "green",
    "failed": "red",
    "expired": "red",
    "exhausted": "red",
    "failing": "red",
    "blocked": "red",
    "disabled": "yellow",
    "canceled": "yellow",
    "paused": "yellow",
    "uncertain": "yellow",
    "note": "yellow",
    "running": "cyan",
    "submitting": "cyan",
    "pending": "cyan",
}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_PIPED_WIDTH = 1000
"""Columns where nobody looks: nothing is cut or wrapped for the next program."""


def print_json(value: Any) -> None:
    """JSON for programs and people."""
    typer.echo(plain_json(json.dumps(value, indent=2, ensure_ascii=False)))


def print_json_line(value: Any) -> None:
    """One of many values, each a line of its own for programs that read them as they come."""
    typer.echo(plain_json(json.dumps(value, ensure_ascii=False)))


def plain_json(text: str) -> str:
    """The same JSON, with escapes in place of what a terminal would take for a command."""
    return _ODD.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)


_ODD = re.compile(r"[^\n -~]")


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], empty: str = "none") -> None:
    """Aligned columns; what is empty everywhere is left out."""
    from rich.table import Table
    from rich.text import Text

    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        typer.echo(empty)
        return
    used = [place for place in range(len(heads)) if any(row[place] for row in cells)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for place in used:
        shown.add_column(heads[place], overflow="fold", no_wrap=heads[place] in ("id", "job", "state"))
    for row in cells:
        shown.add_row(*(Text(row[place], style=_COLORS.get(row[place], "")) for place in used))
    _print(shown)


def line(cells: Iterable[Any]) -> None:
    """One line at once, its cells two spaces apart; what is empty is a dash."""
    typer.echo("  ".join(" ".join(plain(cell).split()) or "-" for cell in cells))


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values below each other; empty ones are left out."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in pairs:
        if text := plain(value):
            shown.add_row(name, Text(text, style=_COLORS.get(text, "")))
    _print(shown)


def heading(text: str) -> None:
    """A part's title."""
    typer.echo(f"\n{text}")


def _print(shown: "Table") -> None:
    """To the terminal as it is wide; to a program nothing is cut, wrapped or padded."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(shown)
        return
    page = Console(width=_PIPED_WIDTH, highlight=False, file=io.StringIO())
    with page.capture() as captured:
        page.print(shown)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def plain(value: Any) -> str:
    """A value as text without what a terminal would take for a command; JSON for what is no text."""
    if value is None or value in ({}, [], ()):
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def now() -> str:
    """This moment as relay writes times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(time: str | None) -> str:
    """An RFC 3339 time as seen from now."""
    if time is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def due(time: str | None) -> str:
    """When something is tried next, as seen from now: what waits for a place or for the broker is due already."""
    if time is None:
        return ""
    return "now" if datetime.fromisoformat(time) <= datetime.now(UTC) else ago(time)


def target(delivery: Mapping[str, Any]) -> str:
    """Where a delivery goes: its host or queue, and the name that the request gave it."""
    return f"{delivery['target']} ({delivery['name']})" if delivery["name"] else str(delivery["target"])


def between(start: str | None, end: str | None) -> str:
    """The length of time from one RFC 3339 time to another."""
    if start is None or end is None:
        return ""
    return span((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def span(seconds: float) -> str:
    """A length of time, to about two digits."""
    for (unit, size), below in pairwise(_UNITS):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}" + _rest(seconds % size, below)
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _rest(seconds: float, unit: tuple[str, int]) -> str:
    name, size = unit
    return f" {seconds // size:.0f} {name}" if seconds >= size else ""


def moment(text: str | None, option: str) -> str | None:
    """RFC 3339 of a time as typed: as it is, or as a length of time before now (`90s`, `30m`, `2h`, `7d`)."""
    if text is None:
        return None
    try:
        if found := re.fullmatch(r"(\d+)\s*(s|m|min|h|d)", text.strip()):
            unit = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[found[2]]
            return (datetime.now(UTC) - timedelta(seconds=int(found[1]) * unit)).isoformat().replace("+00:00", "Z")
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.astimezone()).isoformat()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time: give one as 2026-11-21T20:00:00Z or 2h, 30m, 7d", param_hint=option
        ) from None


def pairs_of(given: Sequence[str], option: str) -> dict[str, str]:
    """`key=value` options."""
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is no key=value", param_hint=option)
        pairs[key] = value
    return pairs
