"""A management server that shares no code with ratekeeper: Envoy's published messages, Google's gRPC.

    management.py SNAPSHOTS

Serves aggregated discovery on a free port, which it prints first. SNAPSHOTS is a JSON list; each of its
elements is a list of RateLimitConfigs in protobuf JSON. A stream gets the first at its first request, and the
next one whenever it has answered the one before. Each request is printed as protobuf JSON on a line.
"""

import json
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2

from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

PACKAGE = "ratelimit.config.ratelimit.v3"
TYPE_URL = f"type.googleapis.com/{PACKAGE}.RateLimitConfig"

# The messages of go-control-plane's ratelimit/config/ratelimit/v3/rls_conf.proto, which no Python package has: the
# name, number and type of each field.
MESSAGES = {
    "RateLimitConfig": [("name", 1, "string"), ("domain", 2, "string"), ("descriptors", 3, "RateLimitDescriptor*")],
    "RateLimitDescriptor": [
        ("key", 1, "string"),
        ("value", 2, "string"),
        ("rate_limit", 3, "RateLimitPolicy"),
        ("descriptors", 4, "RateLimitDescriptor*"),
        ("shadow_mode", 5, "bool"),
        ("detailed_metric", 6, "bool"),
        ("quota_mode", 7, "bool"),
        ("metadata", 8, "google.protobuf.Struct"),
    ],
    "RateLimitPolicy": [
        ("unit", 1, "RateLimitUnit"),
        ("requests_per_unit", 2, "uint32"),
        ("unlimited", 3, "bool"),
        ("name", 4, "string"),
        ("replaces", 5, "RateLimitReplace*"),
    ],
    "RateLimitReplace": [("name", 1, "string")],
}
UNITS = {"UNKNOWN": 0, "SECOND": 1, "MINUTE": 2, "HOUR": 3, "DAY": 4, "MONTH": 5, "YEAR": 6, "WEEK": 7}

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {"string": Field.TYPE_STRING, "bool": Field.TYPE_BOOL, "uint32": Field.TYPE_UINT32}


def config_class():
    file = descriptor_pb2.FileDescriptorProto(name="rls_conf.proto", package=PACKAGE, syntax="proto3")
    file.dependency.append("google/protobuf/struct.proto")
    unit = file.enum_type.add(name="RateLimitUnit")
    for name, number in UNITS.items():
        unit.value.add(name=name, number=number)
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind in fields:
            label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, label=label)
            kind = kind.rstrip("*")
            if kind in SCALARS:
                field.type = SCALARS[kind]
                continue
            field.type = Field.TYPE_ENUM if kind == "RateLimitUnit" else Field.TYPE_MESSAGE
            field.type_name = f".{kind}" if "." in kind else f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.RateLimitConfig"))


class Management(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, snapshots):
        config = config_class()
        self.snapshots = [[json_format.ParseDict(c, config()).SerializeToString() for c in s] for s in snapshots]

    def StreamAggregatedResources(self, requests, context):
        for version, request in enumerate(requests, 1):
            print(json.dumps(json_format.MessageToDict(request)), flush=True)
            if version > len(self.snapshots):
                continue
            response = discovery_pb2.DiscoveryResponse(version_info=f"v{version}", type_url=TYPE_URL, nonce=f"n{version}")
            response.control_plane.identifier = "python"
            for config in self.snapshots[version - 1]:
                response.resources.add(type_url=TYPE_URL, value=config)
            yield response


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(4))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Management(json.loads(sys.argv[1])), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    server.wait_for_termination()
