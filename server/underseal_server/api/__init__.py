"""The gRPC side: one servicer per service, the table of who may call what."""
