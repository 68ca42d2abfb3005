"""relay runs jobs at vendors' job systems, asked by queue or by HTTP, and announces how each one ended."""

__version__ = "0.1.0"
