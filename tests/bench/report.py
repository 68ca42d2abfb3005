"""The figures as people read them: medians with their range, and each against the bare loop of its own round."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.run import Figures

BARE = "bare loop"


def line(one: Figures) -> str:
    """One run, while the others are still going on."""
    return (
        f"round {one.round}  {one.traffic:22} {one.subject:22} {one.jobs_per_second:6.0f} jobs/s  "
        f"{one.cpu:6.0f} µs  broker {one.broker_cpu:5.0f} µs  p50 {one.p50:6.1f}  p99 {one.p99:6.1f} ms  "
        f"{one.memory:4.0f} MB"
    )


def table(figures: Sequence[Figures]) -> str:
    """All runs in a few lines: `x` columns are the median over the rounds of each round's ratio."""
    head = (
        "",
        "jobs/s",
        "(range)",
        "x bare",
        "cpu µs",
        "x bare",
        "broker µs",
        "x bare",
        "db µs",
        "p50 ms",
        "p99 ms",
        "MB",
    )
    lines: list[Sequence[str]] = []
    for traffic in dict.fromkeys(one.traffic for one in figures):
        subjects = dict.fromkeys(one.subject for one in figures if one.traffic == traffic)
        lines += [["", f"{traffic}, the medians of {_rounds(figures, traffic)} rounds"], list(head)]
        lines += [_row(figures, traffic, subject) for subject in subjects]
    return "\n".join(_aligned(lines)) + "\n"


def steps(told: Mapping[str, Any], jobs: int) -> str:
    """What `steps.py` has written, in microseconds a job."""
    rows = [f"{'all of it':26}{(told['main'] + told['otherThreads']) / jobs * 1e6:7.0f} µs a job"]
    rows.append(f"{'  the other threads':26}{told['otherThreads'] / jobs * 1e6:7.0f}")
    for step, seconds in told["steps"].items():
        rows.append(f"{'  ' + step:26}{seconds / jobs * 1e6:7.0f}")
        rows += [f"      {spent / jobs * 1e6:6.0f}  {place}" for place, spent in list(told["places"][step].items())[:6]]
    return "\n".join(rows) + "\n"


def calls(counts: Mapping[str, Mapping[str, int]], jobs: int) -> str:
    """What `calls.py` has written, a job, side by side."""
    names = list(counts)
    files = sorted(
        {file for each in counts.values() for file in each}, key=lambda file: -counts[names[-1]].get(file, 0)
    )
    rows = [
        f"{'calls a job':44}" + "".join(f"{name:>16}" for name in names),
        f"{'':44}" + "".join(f"{sum(counts[name].values()) / jobs:16.0f}" for name in names),
        *(f"{file:44}" + "".join(f"{counts[name].get(file, 0) / jobs:16.1f}" for name in names) for file in files[:40]),
    ]
    return "\n".join(rows) + "\n"


def _rounds(figures: Sequence[Figures], traffic: str) -> int:
    return len({one.round for one in figures if one.traffic == traffic})


def _row(figures: Sequence[Figures], traffic: str, subject: str) -> list[str]:
    own = [one for one in figures if (one.traffic, one.subject) == (traffic, subject)]
    bare = {one.round: one for one in figures if (one.traffic, one.subject) == (traffic, BARE)}

    def middle(what: Callable[[Figures], float]) -> float:
        return median(map(what, own))

    def ratio(what: Callable[[Figures], float]) -> str:
        pairs = [(what(one), what(bare[one.round])) for one in own if one.round in bare]
        return f"{median(mine / theirs for mine, theirs in pairs if theirs):.2f}" if any(b for _, b in pairs) else ""

    speeds = [one.jobs_per_second for one in own]
    return [
        subject,
        f"{middle(_speed):.0f}",
        f"({min(speeds):.0f}-{max(speeds):.0f})",
        ratio(_speed),
        f"{middle(_cpu):.0f}",
        ratio(_cpu),
        f"{middle(_broker):.0f}",
        ratio(_broker),
        f"{middle(lambda one: one.database_cpu):.0f}",
        f"{middle(lambda one: one.p50):.1f}",
        f"{middle(lambda one: one.p99):.1f}",
        f"{max(one.memory for one in own):.0f}",
    ]


def _speed(one: Figures) -> float:
    return one.jobs_per_second


def _cpu(one: Figures) -> float:
    return one.cpu


def _broker(one: Figures) -> float:
    return one.broker_cpu


def _aligned(lines: Iterable[Sequence[str]]) -> Iterable[str]:
    for cells in lines:
        if len(cells) == 2:
            yield f"\n{cells[1]}"
        else:
            yield f"{cells[0]:22}" + "".join(f"{cell:>11}" for cell in cells[1:])
