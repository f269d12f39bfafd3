"""gRPC as every role uses it: mutual TLS, who may call what, errors, logs, a listener.

Nothing here knows a message of ours; the standard health and reflection services are the only
generated code it serves.
"""
