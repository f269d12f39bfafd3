"""Generated code of the wire format; see ``proto/`` and ``make proto``."""
