"""The whole service on loopback, on real faces: what ``underseal demo`` runs."""
