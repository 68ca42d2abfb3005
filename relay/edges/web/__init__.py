"""The HTTP interface: requests come in, vendors call back, operators look.

doors.py      what it needs of the rest of relay
route.py      what a route is; each noun's file ends in a table of them
jobs.py deliveries.py vendors.py callbacks.py acts.py health.py
live.py       events as they come, deliveries as they change
views.py      how things look, as models: the answers and the OpenAPI document are made of the same
server.py     the socket; connection.py and framework.py are its two sides of a client's connection
"""

from relay.edges.web.application import build_app
from relay.edges.web.doors import ApiToken, Doors, Scope
from relay.edges.web.server import Server

__all__ = ["ApiToken", "Doors", "Scope", "Server", "build_app"]
