"""What the pages for readers say is so."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relay import vendors
from relay.app import accounts_of, vendors_of
from relay.cli import app
from relay.core.job import ADVICE
from relay.core.room import Room
from relay.core.vendor import OPERATIONS
from relay.kit import Broken, cases_of
from relay.messages import JobEvent, JobRequest
from relay.metrics import Metrics
from relay.settings import load
from relay.vendors import VENDORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "relay/vendors/README.md").read_text("utf-8")


def matrix() -> dict[str, dict[str, str]]:
    """The README's table of operations: what it says of each vendor."""
    rows = [line.strip("| \n").split("|") for line in README.splitlines() if line.startswith("|")]
    (head,) = [row for row in rows if row[0].strip() == "operation"]
    vendors = [cell.strip().partition("]")[0].lstrip("[") for cell in head[2:]]
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        names = re.findall(r"`(\w+)`", row[0])
        if len(row) == len(head) and set(names) <= set(OPERATIONS):
            found |= {name: dict(zip(vendors, (cell.strip() for cell in row[2:]), strict=True)) for name in names}
    return found


def test_the_readme_says_what_each_vendor_can_be_asked() -> None:
    """Its table is the code's."""
    told = matrix()
    expected = {
        name: {vendor: "yes" if name in VENDORS[vendor].operations else "–" for vendor in told["run"]}
        for name in OPERATIONS
    }

    assert set(VENDORS) == set(told["run"])
    assert expected == told


def blocks(language: str) -> list[str]:
    """The README's examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_readmes_request_and_event_are_such() -> None:
    """The request would be taken, but for its shortened secret, and the event has every field of a real one."""
    request, event = blocks("json")
    asked = JobRequest.model_validate_json(request.replace("whsec_c2VjcmV0...", "whsec_c2VjcmV0"))

    assert ("nightly-2026-11-21", "onJobDone") == (asked.request_id, asked.webhooks[0].trigger_event)
    assert json.loads(event) == json.loads(JobEvent.model_validate_json(event).wire())


def test_the_readmes_settings_are_taken(tmp_path: Path) -> None:
    """But for the token's shortened digest, and the place of the secret."""
    (text,) = blocks("yaml")
    (tmp_path / "secret").write_text("made-up")
    given = text.replace("9f86d0…", "a" * 64).replace("/run/secrets/trifacta", str(tmp_path / "secret"))
    (tmp_path / "relay.yaml").write_text(given, "utf-8")
    settings = load(tmp_path / "relay.yaml", {"RELAY_HTTP__PUBLIC_URL": "https://relay.example.com"})

    assert ["trifacta-prod"] == list(accounts_of(settings, vendors_of(settings)))
    assert "https://relay.example.com" == settings.http.public_url


def test_the_readme_says_what_to_do_about_each_code() -> None:
    """In the words that relay itself has for it."""
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    advice = {code.value: text for code, text in ADVICE.items()}

    assert advice == {code: told[code].replace("`GET /v1/connections`", "GET /v1/connections") for code in advice}


def test_the_metrics_that_the_readme_names_are_there() -> None:
    """Under the names that it gives them."""
    known = {family.name for family in Metrics().registry.collect()}

    assert set() == set(re.findall(r"`(relay_\w+)", README)) - known


def files() -> Iterator[tuple[str, str]]:
    """The files of the guide's vendor, each under its name."""
    for name, text in re.findall(r"^\*\*(\S+?\.py)\*\*.*?```python\n(.*?)```", GUIDE, re.DOTALL | re.MULTILINE):
        yield name.replace("\\", ""), text


@pytest.fixture
def guided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """The room that the guide writes."""
    folder = tmp_path / "my_vendor"
    folder.mkdir()
    for name, text in files():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_vendor.recorded").ROOM
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_vendor"]:
        del sys.modules[name]


def test_the_guide_writes_a_vendor_that_keeps_every_promise(guided: Room) -> None:
    """Its files, put together as they stand."""
    names = [name for name, _ in files()]
    broken = []
    for promise, case in cases_of(guided):
        try:
            case.check()
        except Broken as why:
            broken.append(f"{promise.__name__}, {case.name}: {why}")

    assert ["__init__.py", "flows.py", "recorded.py", "reports.py", "wire.py"] == sorted(names)
    assert [] == broken


def test_the_guides_vendor_is_found_in_the_registrys_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There its package is `relay.vendors.my_vendor`, and `relay vendors test my-vendor` finds its room."""
    package = "relay.vendors.my_vendor"
    (tmp_path / "my_vendor").mkdir()
    for name, text in files():
        (tmp_path / "my_vendor" / name).write_text(text.replace("from my_vendor", f"from {package}"))
    monkeypatch.setattr(vendors, "__path__", [*vendors.__path__, str(tmp_path)])
    monkeypatch.setattr(vendors, "VENDORS", {**VENDORS, "my-vendor": importlib.import_module(package).VENDOR})
    found = vendors.room_of("my-vendor")
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]

    assert "my-vendor" == found.name


def _commands(page: Path) -> Iterator[list[str]]:
    """The commands of relay's that a page shows or names, without what comes before `relay` and after the command."""
    text = page.read_text("utf-8")
    named = re.findall(r"`relay ([a-z][^`]*)`", " ".join(text.split()))
    typed = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    shown = re.findall(r"^(?:\$ )?relay ([a-z].*)$", typed, re.MULTILINE)
    for line in (*named, *shown):
        yield re.split(r"\s[#>&|]", line)[0].split()


def test_every_command_that_a_page_names_is_there() -> None:
    """With every option that the page gives it."""
    pages = [ROOT / "README.md", *(ROOT / "deploy").rglob("*.md"), *(ROOT / "relay").rglob("*.md")]
    told = [(page.name, each) for page in pages for each in _commands(page)]
    answers = [CliRunner().invoke(app, [*command, "--help"]) for _, command in told]

    assert len(told) > 30
    assert [] == [each for each, answer in zip(told, answers, strict=True) if answer.exit_code]


def test_no_help_is_cut_short() -> None:
    """In a terminal of 80 columns every list of commands says of each a whole sentence."""
    asked: list[list[str]] = [[], *([str(group.name)] for group in app.registered_groups)]
    told = [CliRunner().invoke(app, [*names, "--help"], terminal_width=80) for names in asked]
    lines = [line for each in told for line in each.output.splitlines()]

    assert [0] * len(asked) == [each.exit_code for each in told]
    assert [] == [line for line in lines if line.endswith("...") and not line.startswith("Usage:")]
