"""The scheme: profiles, encoding, encryption, evaluation on ciphertexts."""
