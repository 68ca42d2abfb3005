"""What is shown of what was given."""

import pytest

from relay.edges.web.redact import redacted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://files.example.com/a.sql?signature=canary", "https://files.example.com/***"),
        ("https://me:canary@files.example.com:8443", "https://files.example.com:8443"),
        ("https://[canary", "***"),
        ("reports/7", "reports/7"),
    ],
)
def test_of_a_url_the_host_is_shown(url: str, shown: str) -> None:
    """Where a parameter is called so: the rest may be what lets one in."""
    assert {"files": [{"url": shown}]} == redacted({"files": [{"url": url}]}, {})


def test_of_headers_the_names_are_shown() -> None:
    """What lets one in may be called anything; a list of names holds nothing else."""
    given = {"one": {"Headers": {"X-Any": "canary"}}, "two": {"headers": ["X-Any"]}}

    assert {"one": {"Headers": {"X-Any": "***"}}, "two": {"headers": ["X-Any"]}} == redacted(given, {})
