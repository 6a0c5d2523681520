"""What a program with Confluent's serializers does, against a broker: `registry.py URL KEY`.

The products ops.avro, ops.json and ops.proto exist, are active, and have the framing `confluent`.
"""

import base64
import json
import struct
import sys
import urllib.error
import urllib.request

from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Schema, SchemaRegistryClient, ServerConfig
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

URL, KEY = sys.argv[1:]
REGISTRY = {"url": URL + "/schema-registry", "basic.auth.user.info": "anybody:" + KEY, "max.retries": 0}


def call(method, path, body=None, kind="application/octet-stream"):
    headers = {"Authorization": "Bearer " + KEY, "Content-Type": kind}
    request = urllib.request.Request(URL + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def append(product, value):
    return call("POST", f"/v1/products/{product}/records?format=value", value)


def appended(product, value, version):
    status, answer = append(product, value)
    assert status == 200, answer
    assert answer["schema_version"] == version, answer


def stored(product):
    status, answer = call("GET", f"/v1/products/{product}/records")
    assert status == 200, answer
    assert all(record["value_encoding"] in ("base64", "text") for record in answer["records"]), answer
    return [
        base64.b64decode(record["value"]) if record["value_encoding"] == "base64" else record["value"].encode()
        for record in answer["records"]
    ]


def refused(work):
    try:
        work()
    except SchemaRegistryError as error:
        return error
    raise AssertionError("it was not refused")


def context(product):
    return SerializationContext(product, MessageField.VALUE)


def id_of(value):
    magic, number = struct.unpack(">bI", value[:5])
    assert magic == 0
    return number


def with_id(value, number):
    return struct.pack(">bI", 0, number) + value[5:]


def round_trip(product, make, old, new, broken, deserializer, records):
    """Serialises with both schemas in every way there is, appends, reads back, deserialises."""
    first, second = records
    register = {"auto.register.schemas": True, "normalize.schemas": True}
    only = {"auto.register.schemas": False}
    latest = {"auto.register.schemas": False, "use.latest.version": True}

    value = make(old, only)(first, context(product))
    appended(product, value, 1)
    again = make(old, register)(first, context(product))
    assert again == value, "the schema that is there has its id"

    missing = refused(lambda: make(new, only)(second, context(product)))
    assert (missing.http_status_code, missing.error_code) == (404, 40403), missing
    evolved = make(new, register)(second, context(product))
    assert id_of(evolved) != id_of(value)
    appended(product, evolved, 2)
    assert make(new, only)(second, context(product)) == evolved
    newest = make(new, latest)(second, context(product))
    assert id_of(newest) == id_of(evolved)
    appended(product, newest, 2)
    # The older producer goes on, and its schema does not become the current one again.
    appended(product, make(old, register)(first, context(product)), 1)

    incompatible = refused(lambda: make(broken, register)(None, context(product)))
    assert (incompatible.http_status_code, incompatible.error_code) == (409, 409), incompatible
    for word in ("carrier", "meshlog product succeed " + product):
        assert word in incompatible.error_message, incompatible

    status, answer = append(product, with_id(value, 999_999))
    assert (status, answer["reason"]) == (400, "SCHEMA_VERSION_UNKNOWN"), answer
    unknown = refused(lambda: deserializer(with_id(value, 999_999), context(product)))
    assert (unknown.http_status_code, unknown.error_code) == (404, 40403), unknown
    # Behind the number, Protobuf has the place of its message, which is 0 here.
    status, answer = append(product, value[5:].lstrip(b"\0"))
    assert (status, answer["reason"]) == (400, "SCHEMA_REJECTED"), answer

    values = stored(product)
    assert values == [value, evolved, newest, value], values
    return [deserializer(value, context(product)) for value in values]


def avro(client):
    def schema(*fields):
        fields = [{"name": name, "type": kind, **more} for name, kind, more in fields]
        return json.dumps({"type": "record", "name": "Flight", "namespace": "ops", "fields": fields})

    old = schema(("carrier", "string", {}))
    new = schema(("carrier", "string", {"doc": "Who flies"}), ("delay", ["null", "int"], {"default": None}))
    broken = schema(("carrier", "int", {}))
    first, second = {"carrier": "UA"}, {"carrier": "AA", "delay": 7}

    def make(text, conf):
        serializer = AvroSerializer(client, text, conf=conf)
        return lambda value, where: serializer(value or {"carrier": 1}, where)

    read = round_trip("ops.avro", make, old, new, broken, AvroDeserializer(client), (first, second))
    assert read == [first, second, second, first], read
    with_reader = AvroDeserializer(client, new)
    assert with_reader(stored("ops.avro")[0], context("ops.avro")) == {"carrier": "UA", "delay": None}


def json_schema(client):
    def schema(**properties):
        return json.dumps(
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "title": "Flight",
                "type": "object",
                "properties": properties,
                "required": ["carrier"],
            }
        )

    old = schema(carrier={"type": "string"})
    new = schema(carrier={"type": "string"}, delay={"type": "integer"})
    broken = schema(carrier={"type": "integer"})
    first, second = {"carrier": "UA"}, {"carrier": "AA", "delay": 7}

    def make(text, conf):
        serializer = JSONSerializer(text, client, conf=conf)
        return lambda value, where: serializer(value or {"carrier": 1}, where)

    deserializer = JSONDeserializer(None, schema_registry_client=client)
    read = round_trip("ops.json", make, old, new, broken, deserializer, (first, second))
    assert read == [first, second, second, first], read


def protobuf(client):
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(*fields):
        file = descriptor_pb2.FileDescriptorProto(name="flight.proto", package="ops", syntax="proto3")
        file.dependency.append("google/protobuf/timestamp.proto")
        flight = file.message_type.add(name="Flight")
        for number, (name, kind, of) in enumerate(fields, 1):
            flight.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL, type=kind, type_name=of)
        stop = flight.nested_type.add(name="Stop")
        stop.field.add(name="airport", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
        pool.Add(file)
        return message_factory.GetMessageClass(pool.FindMessageTypeByName("ops.Flight"))

    carrier = ("carrier", kinds.TYPE_STRING, None)
    at = ("at", kinds.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    stops = ("first_stop", kinds.TYPE_MESSAGE, ".ops.Flight.Stop")
    old, new = message(carrier, at), message(carrier, at, stops)
    broken = message(("carrier", kinds.TYPE_BOOL, None), at)
    first = old(carrier="UA")
    first.at.seconds = 7
    second = new(carrier="AA")
    second.first_stop.airport = "EWR"

    def make(kind, conf):
        serializer = ProtobufSerializer(kind, client, conf)
        return lambda value, where: serializer(kind() if value is None else value, where)

    deserializer = ProtobufDeserializer(new, {}, client)
    read = round_trip("ops.proto", make, old, new, broken, deserializer, (first, second))
    assert [one.carrier for one in read] == ["UA", "AA", "AA", "UA"]
    assert (read[0].at.seconds, read[1].first_stop.airport) == (7, "EWR")
    # A client of its own: the other one remembers the version compiled.
    latest = SchemaRegistryClient(REGISTRY).get_latest_version("ops.proto-value")
    assert "message Flight {" in latest.schema.schema_str, "people read text"


def around(client):
    """What tools ask beside serializers."""
    assert client.get_subjects(subject_prefix="ops.") == ["ops.avro-value", "ops.json-value", "ops.proto-value"]
    assert client.get_schema_types() == ["JSON", "PROTOBUF", "AVRO"]
    assert client.get_versions("ops.avro-value") == [1, 2]
    first = client.get_version("ops.avro-value", 1)
    assert (first.subject, first.version) == ("ops.avro-value", 1)
    assert client.get_subjects_by_schema_id(first.schema_id) == ["ops.avro-value"]
    versions = client.get_schema_versions(first.schema_id)
    assert [(one.subject, one.version) for one in versions] == [("ops.avro-value", 1)]
    broken = Schema('{"type": "record", "name": "Flight", "fields": []}', "AVRO")
    assert client.test_compatibility("ops.avro-value", first.schema)
    assert not client.test_compatibility("ops.avro-value", Schema('"int"', "AVRO"), verbose=True)
    assert not client.test_compatibility_all_versions("ops.avro-value", Schema('"int"', "AVRO"))
    assert client.get_compatibility() == "BACKWARD_TRANSITIVE"
    client.set_config("ops.avro-value", ServerConfig(compatibility=ConfigCompatibilityLevel.FULL))
    assert client.get_compatibility("ops.avro-value") == "FULL"
    assert refused(lambda: client.set_config(None, ServerConfig(compatibility=ConfigCompatibilityLevel.FULL))).http_status_code == 405
    assert client.get_global_mode() == client.get_mode("ops.avro-value") == "READWRITE"

    unknown = refused(lambda: client.register_schema("ops.none-value", broken))
    assert (unknown.http_status_code, unknown.error_code) == (404, 40401), unknown
    assert "meshlog product create ops.none" in unknown.error_message, unknown
    kept = refused(lambda: client.delete_subject("ops.avro-value"))
    assert kept.http_status_code == 405, kept
    stranger = SchemaRegistryClient({**REGISTRY, "basic.auth.user.info": "anybody:mlk_no_key"})
    nobody = refused(lambda: stranger.get_subjects())
    assert (nobody.http_status_code, nobody.error_code) == (401, 40101), nobody


with SchemaRegistryClient(REGISTRY) as client:
    avro(client)
    json_schema(client)
    protobuf(client)
    around(client)
print("ok")
