"""One I/O library each, and no decisions."""
