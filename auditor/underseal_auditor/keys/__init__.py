"""Keys: the ceremony, shares, partial decryption, combination (OVERSIGHT section 5)."""
