"""What the scenarios share: connections, requests, and how answers and errors are read."""

import sys

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from meshlog.v1 import admin_pb2_grpc, catalog_pb2, catalog_pb2_grpc, record_pb2, record_pb2_grpc, schema_pb2

BROKER = sys.argv[2]

channel = grpc.insecure_channel(BROKER)
admin = admin_pb2_grpc.AdminServiceStub(channel)
catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
records = record_pb2_grpc.RecordServiceStub(channel)
# A subscription has a connection of its own; without the option, equal channels would share one.
subscriptions = record_pb2_grpc.RecordServiceStub(grpc.insecure_channel(BROKER, [("grpc.use_local_subchannel_pool", 1)]))


def same(what, found, expected):
    if found != expected:
        raise AssertionError(f"{what}: expected {expected!r}, found {found!r}")


def product_request(name, partitions=1, description="Made by a scenario", team="shop-team", contact="shop@example.org"):
    return catalog_pb2.CreateProductRequest(
        product=catalog_pb2.Product(
            name=name,
            owner=team,
            description=description,
            classification=catalog_pb2.CLASSIFICATION_INTERNAL,
            partitions=partitions,
        ),
        value_schema=schema_pb2.SchemaSource(
            format=schema_pb2.SCHEMA_FORMAT_OPAQUE, media_type="text/plain", reason="a scenario does not look inside"
        ),
        new_domain=catalog_pb2.Domain(name=name.split(".")[0], owner=team, description="Scenarios"),
        new_team=catalog_pb2.Team(name=team, contacts=[contact]),
    )


def create_product(given, settings=None):
    request = product_request(given["product"], given.get("partitions", 1))
    if settings:
        request.product.settings.CopyFrom(settings)
    catalog.CreateProduct(request)


def append(product, *values, keys=None, **more):
    keys = keys or [None] * len(values)
    batch = record_pb2.RecordBatch(
        records=[record_pb2.Record(key=key, value=value.encode()) for key, value in zip(keys, values)]
    )
    return records.Append(record_pb2.AppendRequest(product=product, batch=batch, **more))


def start(positions):
    """At these offsets by partition; partitions not named start at the beginning."""
    at = [record_pb2.Position(partition=partition, offset=offset) for partition, offset in positions.items()]
    return record_pb2.Start(positions=record_pb2.Positions(positions=at))


def pairs(message):
    """The (offset, value) of each record of a ReadResponse or a SubscribeResponse."""
    for batch in message.batches:
        for index, record in enumerate(batch.batch.records):
            if index >= batch.skip:
                delta = batch.offset_deltas[index] if batch.offset_deltas else index
                yield [str(batch.base_offset + delta), record.value.decode() if record.HasField("value") else None]


def read_all(product, offset=0):
    found = []
    while True:
        answer = records.Read(record_pb2.ReadRequest(product=product, start=start({0: offset})))
        found += pairs(answer)
        offset = answer.partitions[0].next_offset
        if offset >= answer.partitions[0].durable_end:
            return found


def failure(call):
    """The facts of a failed call, which must agree in the status, its details and the plain trailers."""
    try:
        call()
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        status = Status.FromString(trailers["grpc-status-details-bin"])
        info = ErrorInfo()
        if not any(detail.Unpack(info) for detail in status.details):
            raise AssertionError("the details have no ErrorInfo") from error
        same("domain", info.domain, "meshlog")
        same("trailer meshlog-reason", trailers["meshlog-reason"], info.reason)
        same("trailer meshlog-applied", trailers["meshlog-applied"], info.metadata["applied"])
        return error.code().name, info
    raise AssertionError("the call succeeded")


def check_failure(expected, call):
    code, info = failure(call)
    same("code", code, expected["code"])
    same("reason", info.reason, expected["reason"])
    if "applied" in expected:
        same("applied", info.metadata["applied"], expected["applied"])
    for key, value in expected.get("metadata", {}).items():
        same(key, info.metadata.get(key), value)


def check_end(given, expect):
    offsets = records.ListOffsets(record_pb2.ListOffsetsRequest(product=given["product"]))
    same("durable end", str(offsets.partitions[0].durable_end), expect["next_offset"])
