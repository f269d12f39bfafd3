"""The auditor role: keys, policy, and the only code that opens a score."""
