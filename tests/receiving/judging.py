"""Has the page's functions judge deliveries, each language in a process of its own."""

import base64
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.receiving.page import Signed, snippet

JUDGES = Path(__file__).parent / "judges"
PATIENCE = 120
"""Seconds for one language; only a hang takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """How to run a language's functions: the page's go to `file`, and the commands are run beside them in turn."""

    block: str
    file: str
    judge: str
    commands: tuple[tuple[str, ...], ...]
    package: tuple[str, str] = ("", "")
    """What the page's package is called there, and what it has to be called to be run."""

    @property
    def there(self) -> bool:
        """Whether this machine has it."""
        return all(shutil.which(command[0]) for command in self.commands)


LANGUAGES = {
    "Python": Language(block="python", file="snippet.py", judge="judge.py", commands=((sys.executable, "judge.py"),)),
    "Node": Language(block="js", file="snippet.mjs", judge="judge.mjs", commands=(("node", "judge.mjs"),)),
    "PHP": Language(block="php", file="snippet.php", judge="judge.php", commands=(("php", "judge.php"),)),
    "Java": Language(
        block="java",
        file="Signatures.java",
        judge="Judge.java",
        commands=(("javac", "Signatures.java", "Judge.java"), ("java", "-XX:TieredStopAtLevel=1", "Judge")),
    ),
    "Go": Language(
        block="go",
        file="webhooks.go",
        judge="judge.go",
        commands=(("go", "run", "webhooks.go", "judge.go"),),
        package=("package webhooks", "package main"),
    ),
}


def judged(language: Language, folder: Path, deliveries: Sequence[Signed]) -> list[bool]:
    """What the page's functions say to each delivery."""
    (folder / language.file).write_text(snippet(language.block).replace(*language.package), encoding="utf-8")
    shutil.copy(JUDGES / language.judge, folder)
    *makings, judging = language.commands
    for making in makings:
        run(making, folder)
    return verdicts(run(judging, folder, "".join(map(_line, deliveries))))


def run(command: Sequence[str], folder: Path, given: str = "") -> str:
    """What a command says; what it complains of fails the test."""
    done = subprocess.run(
        command, cwd=folder, input=given, capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def verdicts(said: str) -> list[bool]:
    """One true or false a line."""
    return [{"true": True, "false": False}[line] for line in said.splitlines()]


def _line(signed: Signed) -> str:
    now = "" if signed.now is None else str(signed.now)
    texts = (signed.kind, signed.secret, signed.id, signed.timestamp, signed.signature, now)
    return "\t".join(_coded([*(text.encode() for text in texts), signed.body])) + "\n"


def _coded(fields: Iterable[bytes]) -> Iterable[str]:
    return (base64.b64encode(field).decode() for field in fields)
