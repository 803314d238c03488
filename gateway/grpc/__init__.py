"""The gRPC APIs. Nothing else imports this package, or `grpc`, where `enable_grpc` is off."""

import os

# A listener of gRPC's older kind reads its connections in the thread that waits for their calls: each call
# wakes one thread less. gRPC reads the variable when it is imported. A value that the user has set counts.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
