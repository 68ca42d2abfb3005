"""What every test finds: an environment without relay's variables; a broker and a database, started once if needed."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import aiormq
import asyncpg
import pytest
import structlog
from yarl import URL

from tests import postgres
from tests.postgres import PostgreSQL
from tests.rabbitmq import RabbitMQ, Unavailable, installed_version

GIVEN_AMQP_URL = os.environ.get("RELAY_TEST_AMQP_URL")
GIVEN_POSTGRES_URL = os.environ.get("RELAY_TEST_POSTGRES_URL")

# structlog's own way paints a trace with every local variable, which takes it a third of a second.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


def pytest_report_header() -> list[str]:
    """Say which servers the tests talk to."""
    return [f"broker: {_broker()}", f"database: SQLite; {_database()}"]


def _broker() -> str:
    if GIVEN_AMQP_URL:
        return asyncio.run(_introduce(GIVEN_AMQP_URL))
    try:
        return f"RabbitMQ {installed_version()}, a private node, started by the first test that needs it"
    except Unavailable as problem:
        return f"none. {problem}"


def _database() -> str:
    if GIVEN_POSTGRES_URL:
        return f"PostgreSQL at {URL(GIVEN_POSTGRES_URL).host}"
    try:
        return f"PostgreSQL {postgres.installed_version()}, a private server, started by the first test that needs it"
    except Unavailable as problem:
        return f"no other. {problem}"


async def _introduce(url: str) -> str:
    place = f"{URL(url).host}:{URL(url).port}"
    try:
        connection = await aiormq.connect(url)
    except (OSError, aiormq.exceptions.AMQPError) as error:
        return f"none answers at {place} ({type(error).__name__}): see RELAY_TEST_AMQP_URL"
    properties = connection.server_properties
    await connection.close()
    return f"{properties['product']!s} {properties['version']!s} at {place}"


@pytest.fixture(autouse=True)
def _no_relay_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("RELAY_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """The broker that all tests share: names that a test declares there must be its own."""
    if GIVEN_AMQP_URL:
        yield GIVEN_AMQP_URL
        return
    with RabbitMQ() as node:
        yield node.url


@pytest.fixture(scope="module")
def _rabbitmq_to_break() -> Iterator[RabbitMQ]:
    """A node that was killed may keep queues that never confirm again (RabbitMQ 3.10), so no other file gets it."""
    with RabbitMQ() as node:
        yield node


@pytest.fixture
def rabbitmq(_rabbitmq_to_break: RabbitMQ) -> Iterator[RabbitMQ]:
    """A running node that the test may stop, kill and freeze. Its data outlive the test: use own names."""
    yield _rabbitmq_to_break
    _rabbitmq_to_break.thaw()
    _rabbitmq_to_break.start()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the server that all tests share."""
    if GIVEN_POSTGRES_URL:
        yield GIVEN_POSTGRES_URL
        return
    with PostgreSQL() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of this run's own: a test that wants it empty empties it."""
    with _new_database(postgres_server) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of the test's own, without a table."""
    with _new_database(postgres_server) as url:
        yield url


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    """A running server that the test may stop and kill."""
    with PostgreSQL() as server:
        yield server


@contextmanager
def _new_database(server: str) -> Iterator[str]:
    name = f"relay_{secrets.token_hex(6)}"
    asyncio.run(_execute(server, f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))
    try:
        yield str(URL(server).with_path(f"/{name}"))
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(server: str, statement: str) -> None:
    db = await asyncpg.connect(server)
    await db.execute(statement)
    await db.close()
