"""What is shipped to run relay with fits relay and itself."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from relay.app import vault_of
from relay.edges.vault import Vault, new_key
from relay.settings import load

DEPLOY = Path(__file__).parent.parent / "deploy"
_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")


def _filled_in(environment: Mapping[str, str], given: Mapping[str, str]) -> Mapping[str, str]:
    """A service's environment, as compose makes it of its own."""
    return {name: _VARIABLE.sub(lambda found: given[found[1]], value) for name, value in environment.items()}


def test_shipped_configuration_is_accepted(tmp_path: Path) -> None:
    """relay takes the compose file's configuration with the variables and secrets that the compose file gives it."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    (tmp_path / "trifacta_token").write_text("any")
    (tmp_path / "relay.yaml").write_text((DEPLOY / "relay.yaml").read_text().replace("/run/secrets", str(tmp_path)))
    given = {"RABBITMQ_PASSWORD": "rabbit", "POSTGRES_PASSWORD": "elephant", "RELAY_SECRET_KEY": new_key()}
    environ = _filled_in(compose["services"]["relay"]["environment"], {**given, "API_TOKEN_SHA256": "0" * 64})

    settings = load(tmp_path / "relay.yaml", environ)

    assert {"trifacta"} == settings.connections.keys()
    assert settings.amqp is not None
    assert "postgresql://relay:elephant@postgres/relay" == settings.database.url.get_secret_value()
    assert vault_of(settings).open(Vault(given["RELAY_SECRET_KEY"]).seal(b"secret")) == b"secret"


def test_the_example_names_every_variable() -> None:
    """Whatever the compose file asks of its environment stands in the example of it."""
    asked = set(_VARIABLE.findall((DEPLOY / "compose.yaml").read_text())) | {"TRIFACTA_TOKEN"}
    lines = (DEPLOY / ".env.example").read_text().splitlines()

    assert asked == {line.partition("=")[0] for line in lines if line and not line.startswith("#")}


def test_compose_names_only_what_it_has() -> None:
    """Every service, volume and secret that a service refers to is there, and every port is the loopback's alone."""
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        named = {mount.split(":")[0] for mount in service.get("volumes", []) if not mount.startswith(".")}
        published = {port.split(":")[0] for port in service.get("ports", [])}

        assert set() == set(service.get("depends_on", {})) - set(services)
        assert set() == set(service.get("secrets", [])) - set(compose["secrets"])
        assert set() == named - set(compose["volumes"])
        assert {"127.0.0.1"} == published
