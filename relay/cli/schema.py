"""`relay schema`: what goes in and what comes out, as JSON Schema and its kin."""

import typer

from relay.cli import output

app = typer.Typer(help="What goes in and what comes out, as schemas.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def request() -> None:
    """The JSON Schema of a job request."""
    from relay.messages import JobRequest

    output.print_json(JobRequest.model_json_schema())


@app.command()
def event() -> None:
    """The JSON Schema of the terminal event."""
    from relay.messages import JobEvent

    output.print_json(JobEvent.model_json_schema(mode="serialization"))


@app.command()
def config() -> None:
    """The JSON Schema of the settings."""
    from relay.settings import Settings

    output.print_json(Settings.model_json_schema())


@app.command()
def vendor() -> None:
    """The JSON Schema of a vendor's declaration."""
    from relay.vendors.declared import Declaration

    output.print_json(Declaration.model_json_schema())


@app.command()
def openapi() -> None:
    """The HTTP interface as OpenAPI 3.1."""
    from relay.edges.web.application import ROUTES
    from relay.edges.web.documents import openapi as described

    output.print_json(described(ROUTES))


@app.command()
def asyncapi() -> None:
    """What goes over AMQP as AsyncAPI 3.0."""
    from relay.edges.web.documents import asyncapi as described

    output.print_json(described())
