"""Search on many machines: shards of blocks in the memory of a Ray cluster."""
