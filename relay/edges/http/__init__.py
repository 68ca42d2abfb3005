"""The way out by HTTP: to vendors, whose addresses the operator gives, and to receivers, whose URLs outsiders give."""

from relay.edges.http.receivers import WebhookSender
from relay.edges.http.vendors import Fetch, Reread, TlsFiles, VendorDriver, VendorLink

__all__ = ["Fetch", "Reread", "TlsFiles", "VendorDriver", "VendorLink", "WebhookSender"]
