"""Arithmetic in Z_p[X]/(X^N + 1): the native kernel and its typed boundary."""
