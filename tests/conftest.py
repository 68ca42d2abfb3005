"""What every test finds: an environment without relay's variables, and a broker, started once if needed."""

import asyncio
import os
from collections.abc import Iterator

import aiormq
import pytest
from yarl import URL

from tests.rabbitmq import RabbitMQ, Unavailable, installed_version

GIVEN_AMQP_URL = os.environ.get("RELAY_TEST_AMQP_URL")


def pytest_report_header() -> str:
    """Say which broker the tests talk to."""
    if GIVEN_AMQP_URL:
        return f"broker: {asyncio.run(_introduce(GIVEN_AMQP_URL))}"
    try:
        return (
            f"broker: RabbitMQ {installed_version()}, a private node, started by the first test that needs it"
        )
    except Unavailable as problem:
        return f"broker: none. {problem}"


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


@pytest.fixture(scope="session")
def _rabbitmq_to_break() -> Iterator[RabbitMQ]:
    with RabbitMQ() as node:
        yield node


@pytest.fixture
def rabbitmq(_rabbitmq_to_break: RabbitMQ) -> Iterator[RabbitMQ]:
    """A running node that the test may stop, kill and freeze. Its data outlive the test: use own names."""
    yield _rabbitmq_to_break
    _rabbitmq_to_break.thaw()
    _rabbitmq_to_break.start()
