"""Descriptions of the open inference protocol under KServe's name, for reflection."""

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from gateway.grpc.messages import open_inference_pb2

PACKAGE = "inference"
FILE = "kserve_inference.proto"


def describe() -> None:
    """Adds the messages and the service to the pool that reflection reads; again: does nothing."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(FILE)
    except KeyError:
        pool.AddSerializedFile(_renamed().SerializeToString())


def _renamed() -> FileDescriptorProto:
    file = FileDescriptorProto()
    open_inference_pb2.DESCRIPTOR.CopyToProto(file)
    old, new = f".{file.package}.", f".{PACKAGE}."

    def rename(message: DescriptorProto) -> None:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(old, new)
        for nested in message.nested_type:
            rename(nested)

    for message in file.message_type:
        rename(message)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    file.name, file.package = FILE, PACKAGE
    return file
