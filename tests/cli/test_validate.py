"""`relay vendors validate` and `relay schema vendor`: for who declares a vendor."""

import json
from pathlib import Path

import pytest

from relay.vendors.declared.recorded import FILE
from tests.cli.conftest import run

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "examples").glob("*/vendor.yaml"))


async def test_a_good_declaration_is_fine_and_shown() -> None:
    """What it can be asked, and what its connections need."""
    done = await run("vendors", "validate", str(FILE))

    assert (0, "") == (done.code, done.err)
    assert done.out.startswith(f"{FILE}: acme is fine\n")
    assert all(word in done.out for word in ("run        tracked", "report* format options", "a secret; needed"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
async def test_every_example_is_fine(file: Path) -> None:
    """Declarations and settings alike."""
    alone = await run("vendors", "validate", str(file), "--json")
    settings = await run("check", "--offline", "--config", str(file.with_name("relay.yaml")))

    assert (0, 1) == (alone.code, len(alone.json)), alone.err
    assert (0, "") == (settings.code, settings.err)


async def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    """On standard error, with exit code 1."""
    file = tmp_path / "acme.yaml"
    file.write_text("operations:\n  run:\n    submit:\n      request: {path: 'x/${jbo.id}'}\n      jobId: a..b\n")
    done = await run("vendors", "validate", str(file))

    assert (1, "") == (done.code, done.out)
    told = done.err.replace(f"relay: {file} ", "").replace("vendors.acme.operations.run.submit.", "").splitlines()
    assert [
        "line 4: request.path: there is no `jbo` here; did you mean job?",
        "line 4: request.path: a path begins with a slash: it is put behind the connection's baseUrl",
        "line 5: jobId: 'a..b' is no JMESPath expression: it cannot be read from '.b' on",
    ] == told


async def test_the_declarations_schema_is_json_schema() -> None:
    """With each field's meaning, for editors."""
    done = await run("schema", "vendor")

    assert 0 == done.code
    assert ["operations"] == done.json["required"]
    assert '"format": "jmespath"' in json.dumps(done.json)
