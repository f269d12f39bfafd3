"""Searches sent to a real server at chosen rates, each signed and with an id of its own."""
