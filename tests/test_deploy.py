"""What is shipped to run relay with fits relay and itself."""

from pathlib import Path
from typing import Any

import yaml

from relay.settings import load

DEPLOY = Path(__file__).parent.parent / "deploy"


def test_shipped_configuration_is_accepted(tmp_path: Path) -> None:
    """relay takes the compose file's configuration with the variables and secrets that the compose file gives it."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    (tmp_path / "trifacta_token").write_text("any")
    (tmp_path / "relay.yaml").write_text((DEPLOY / "relay.yaml").read_text().replace("/run/secrets", str(tmp_path)))
    environ = dict(compose["services"]["relay"]["environment"], API_TOKEN_SHA256="0" * 64)

    settings = load(tmp_path / "relay.yaml", environ)

    assert {"trifacta"} == settings.connections.keys()
    assert settings.amqp is not None


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
