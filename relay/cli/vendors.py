"""`relay vendors`: what each kind of job system can be asked."""

from pathlib import Path
from typing import Annotated

import typer

from relay.cli import output, promises
from relay.cli.client import ALL, HOME, AsJson, Client, Failed, Row, Server, Token

app = typer.Typer(help="What vendors can be asked.", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def _vendors(context: typer.Context, as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """What vendors can be asked: without a command, the list."""
    if context.invoked_subcommand is None:
        index(as_json, server, token)


@app.command("list")
def index(as_json: AsJson = False, server: Server = HOME, token: Token = None) -> None:
    """Every operation, and which vendor has it."""
    from relay.core.vendor import OPERATIONS

    found = list(Client(server, token).rows("/v1/vendors", ALL))
    if as_json:
        output.print_json(found)
        return
    kinds = {vendor["name"]: {each["name"]: each["kind"] for each in vendor["operations"]} for vendor in found}
    operations = (name for name in OPERATIONS if any(name in vendor for vendor in kinds.values()))
    rows = ([name, *(kinds[vendor].get(name, "–") for vendor in kinds)] for name in operations)
    output.table(("operation", *kinds), rows, "no vendors")


@app.command()
def show(
    vendor: str,
    operation: Annotated[str | None, typer.Argument(help="Only this one, with its parameters' schema.")] = None,
    as_json: AsJson = False,
    server: Server = HOME,
    token: Token = None,
) -> None:
    """One vendor's operations and parameters."""
    found = list(Client(server, token).rows("/v1/vendors", ALL))
    about = _named(found, vendor, "vendor")
    if operation is not None:
        output.print_json(_named(about["operations"], operation, "operation")["parameters"])
    elif as_json:
        output.print_json(about)
    else:
        _tell(about)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A declaration, or settings with `vendors`.")], as_json: AsJson = False
) -> None:
    """Check declared vendors. Tells every mistake with its line, or what they can be asked. Asks nobody."""
    from relay.edges.web.views import vendor_view
    from relay.settings import RESERVED, declarations_of
    from relay.vendors.declared import vendor_of

    declared = {name: vendor_of(name, each, RESERVED) for name, each in declarations_of(file).items()}
    views: list[Row] = [vendor_view(each).model_dump(mode="json", by_alias=True) for each in declared.values()]
    if as_json:
        output.print_json(views)
        return
    for number, about in enumerate(views):
        typer.echo(f"{'' if number == 0 else chr(10)}{file}: {about['name']} is fine")
        _tell(about)


def _tell(about: Row) -> None:
    output.fields([("vendor", f"{about['name']}: {about['title']}")])
    output.heading("Operations")
    output.table(("operation", "kind", "can be canceled", "calls back", "parameters"), map(_line, about["operations"]))
    output.heading("Settings of a connection")
    output.table(("setting", "meaning"), _properties(about["settings"]), "none")


def _named(rows: list[Row], name: str, what: str) -> Row:
    for row in rows:
        if row["name"] == name:
            return row
    raise Failed(f"there is no {what} {name!r}; there are: {', '.join(row['name'] for row in rows)}")


def _line(operation: Row) -> tuple[str, ...]:
    schema = operation["parameters"]
    needed = schema.get("required", ())
    names = (f"{name}*" if name in needed else name for name in schema.get("properties", {}))
    marks = ("yes" if operation[name] else "" for name in ("cancels", "callback"))
    return operation["name"], operation["kind"], *marks, " ".join(names)


def _properties(schema: Row) -> list[tuple[str, str]]:
    return [(name, each.get("description", "")) for name, each in schema.get("properties", {}).items()]


app.command("test")(promises.hold)
