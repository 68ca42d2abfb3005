"""AMQP 0-9-1, RabbitMQ 3.10 and later: requests come in, events go out, and nothing is lost in between."""

from relay.edges.amqp import frames, tolerant
from relay.edges.amqp.broker import Broker, BrokerStatus, Examination, examine
from relay.edges.amqp.deadletters import Buried, DeadLetterFilter, DeadLetters
from relay.edges.amqp.topology import Topology, TopologyError, definitions, permissions

__all__ = [
    "Broker",
    "BrokerStatus",
    "Buried",
    "DeadLetterFilter",
    "DeadLetters",
    "Examination",
    "Topology",
    "TopologyError",
    "definitions",
    "examine",
    "permissions",
]

tolerant.install()
frames.install()
