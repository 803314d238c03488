"""Messages generated from gateway/grpc/protos; tests/gateway/grpc/test_messages.py generates them again."""
