"""The page for receivers' developers, taken apart: its functions and its examples."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "deploy" / "receiving.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A delivery as its receiver has to judge it. `now` is the receiver's clock, None for the real one."""

    kind: str
    secret: str
    signature: str
    body: bytes
    id: str = ""
    timestamp: str = ""
    now: float | None = None


def snippet(language: str) -> str:
    """The one block of code in that language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{len(blocks)} blocks of {language}"
    return str(blocks[0])


def examples() -> list[Signed]:
    """The examples, each at the moment it was signed."""
    return [
        Signed(
            kind=each["signature"],
            secret=each["secretKey"],
            signature=each["header"],
            body=each["body"].encode(),
            id=each.get("id", ""),
            timestamp=each.get("timestamp", ""),
            now=_moment(each),
        )
        for each in json.loads(snippet("json"))
    ]


def _moment(example: dict[str, str]) -> float:
    return int(example.get("timestamp", 0)) / (1000 if example["signature"] == "timestamped" else 1)
