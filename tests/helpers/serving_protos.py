"""TF Serving's configuration protos that no wheel has: their fields, declared here."""

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

FIELDS = {
    "Int64Value": {"value": "int64"},
    "StringValue": {"value": "string"},
    "BoolValue": {"value": "bool"},
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
    },
}


def parsed(path, name):
    """A file as the text form of one of these."""
    return text_format.Parse(path.read_text(), empty(name))


def empty(name):
    """One of these, without a value. To the text form field numbers do not matter."""
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, members in FIELDS.items():
        proto = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(members.items(), 1):
            repeated, kind = kind.startswith("repeated"), kind.split()[-1]
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = proto.field.add(name=field, number=number, label=label)
            if kind in FIELDS:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()
