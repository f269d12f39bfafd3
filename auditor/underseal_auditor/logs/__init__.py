"""Reading the transparency log from outside: mirror, audit of its entries, statistics, watch."""
