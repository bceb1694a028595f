"""A client that shares no code with ratekeeper: Envoy's published messages, Google's gRPC.

    client.py call ADDRESS REQUEST [AUTHORITY]
                                       sends a RateLimitRequest, given as protobuf JSON
    client.py encode MESSAGE JSON      the bytes of RateLimitRequest or RateLimitResponse, in hex
    client.py decode MESSAGE HEX       the other way round
    client.py compressed ADDRESS REQUEST
                                       the same, compressed with gzip
    client.py bomb ADDRESS MEBIBYTES   sends so many zeros, compressed with gzip
    client.py health ADDRESS SERVICE   asks grpc.health.v1
    client.py list ADDRESS             asks for the health of all services
    client.py watch ADDRESS SERVICE    prints each status as it comes, a line each, until the stream ends
    client.py reflect ADDRESS          lists services and compares what reflection serves with what is published

Each prints one JSON value.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from envoy.service.ratelimit.v3 import rls_pb2

PACKAGE = "envoy.service.ratelimit.v3"
METHOD = f"/{PACKAGE}.RateLimitService/ShouldRateLimit"
SECONDS = 60

Field = descriptor_pb2.FieldDescriptorProto
DESCRIPTOR = "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor"
MULTIPLIER = {"type": Field.TYPE_MESSAGE, "type_name": ".google.protobuf.UInt32Value"}

# What Envoy 1.40 speaks and the newest published Python messages do not know yet.
NEWER = {
    DESCRIPTOR: Field(name="is_negative_hits", number=4, label=1, type=Field.TYPE_BOOL),
    f"{DESCRIPTOR}.RateLimitOverride": Field(name="unit_multiplier", number=3, label=1, **MULTIPLIER),
    f"{PACKAGE}.RateLimitResponse.RateLimit": Field(name="unit_multiplier", number=4, label=1, **MULTIPLIER),
}


def envoy_messages():
    """A pool with the published messages and the newer fields."""
    pool = descriptor_pool.DescriptorPool()
    added = set()

    def extend(message, name):
        if name in NEWER:
            message.field.append(NEWER[name])
        for nested in message.nested_type:
            extend(nested, f"{name}.{nested.name}")

    def add(file):
        if file.name in added:
            return
        added.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        for message in copy.message_type:
            extend(message, f"{copy.package}.{message.name}")
        pool.Add(copy)

    add(rls_pb2.DESCRIPTOR)
    return pool


POOL = envoy_messages()


def message_class(name):
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def connect(address, *options):
    return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0), *options])


def encode(name, text):
    return json_format.ParseDict(json.loads(text), message_class(name)()).SerializeToString(deterministic=True)


def decode(name, data):
    return json_format.MessageToDict(message_class(name).FromString(data))


def call(address, text, *authority):
    return send(address, encode("RateLimitRequest", text), authority)


def send(address, message, authority=(), compression=grpc.Compression.NoCompression):
    """The answer, or the gRPC status when there is none."""
    with connect(address, *[("grpc.default_authority", text) for text in authority]) as channel:
        try:
            answer = channel.unary_unary(METHOD)(message, timeout=SECONDS, compression=compression)
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
    return decode("RateLimitResponse", answer)


def compressed(address, message):
    return send(address, message, compression=grpc.Compression.Gzip)


def health(address, service):
    with connect(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def list_health(address):
    with connect(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=SECONDS)
    name = health_pb2.HealthCheckResponse.ServingStatus.Name
    return {service: name(health.status) for service, health in answer.statuses.items()}


def watch(address, service):
    with connect(address) as channel:
        try:
            for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service)):
                print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), flush=True)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def shape(message, shapes):
    """Collects what is on the wire of a message and of all that it is made of: name, type, repeated."""
    if message.full_name in shapes or message.file.package == "google.protobuf":
        return
    fields = shapes[message.full_name] = {}
    for field in message.fields:
        kind = field.message_type or field.enum_type
        type_name = kind.full_name if kind else Field.Type.Name(field.type)
        fields[str(field.number)] = [field.name, type_name, "repeated" if field.is_repeated else "single"]
        if field.message_type:
            shape(field.message_type, shapes)
        if field.enum_type:
            shapes[kind.full_name] = {str(value.number): value.name for value in field.enum_type.values}


def shapes(pool):
    service = pool.FindServiceByName(f"{PACKAGE}.RateLimitService")
    found = {}
    for method in service.methods:
        shape(method.input_type, found)
        shape(method.output_type, found)
    return found


def reflect(address):
    """The services, and where the served messages are not the ones that Envoy speaks."""
    with connect(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = list(database.get_services())
        served = shapes(descriptor_pool.DescriptorPool(database))
    known = shapes(POOL)
    pairs = [(name, number) for name in sorted(known | served) for number in sorted(known.get(name, {}) | served.get(name, {}))]
    return {
        "services": sorted(services),
        "same": [f"{n}:{i}" for n, i in pairs if known.get(n, {}).get(i) == served.get(n, {}).get(i)],
        "missing": [f"{n}:{i}" for n, i in pairs if i not in served.get(n, {})],
        "added": [f"{n}:{i}" for n, i in pairs if i not in known.get(n, {})],
        "different": [
            f"{n}:{i}" for n, i in pairs
            if i in known.get(n, {}) and i in served.get(n, {}) and known[n][i] != served[n][i]
        ],
    }


COMMANDS = {
    "call": call,
    "compressed": lambda address, text: compressed(address, encode("RateLimitRequest", text)),
    "bomb": lambda address, mebibytes: compressed(address, bytes(int(mebibytes) << 20)),
    "encode": lambda name, text: encode(name, text).hex(),
    "decode": lambda name, text: decode(name, bytes.fromhex(text)),
    "health": health,
    "list": list_health,
    "watch": watch,
    "reflect": reflect,
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
