"""The registrar on the network: servicer, role table, listener."""
