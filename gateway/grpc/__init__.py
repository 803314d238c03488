"""The gRPC APIs. Nothing else imports this package, or `grpc`, where `enable_grpc` is off."""
