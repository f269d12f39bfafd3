"""The test of 2018 again, encrypted: legislators against a gallery in which none of them is."""
