"""What every role shares: the scheme, signed statements, errors. Knows no role."""
