"""``underseal-server check``: whether everything in a data folder fits together, and repairs."""
