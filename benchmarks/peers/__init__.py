"""Other ways to compare a probe with a gallery, measured on the same inputs.

Each module has one :class:`benchmarks.peers.system.System`; ``measuring`` runs them in processes of
their own, ``table`` writes what they showed.
"""
