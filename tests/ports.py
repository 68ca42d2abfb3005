"""Ports for servers that tests start, stop and start again."""

import random
import socket

CANDIDATES = range(20_000, 32_000)
"""Below the ports of outgoing connections: one of those could take a port while its server is down."""


def free_port() -> int:
    """A port that nobody listens on now."""
    while True:
        port = random.choice(CANDIDATES)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
