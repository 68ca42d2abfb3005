"""The test kit for who writes a vendor's room, in Python or in YAML: what every room promises, and who sees to it."""

from relay.kit.promises import PROMISES, Broken, Case, Promise, cases_of

__all__ = ["PROMISES", "Broken", "Case", "Promise", "cases_of"]
