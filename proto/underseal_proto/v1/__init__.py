"""Version 1 of the wire format, package ``underseal.v1``."""
