"""The scenarios of scenarios.json in Python: `conformance.py SCENARIOS BROKER PROXY`.

Only generated stubs and grpcio. Prints one line per scenario.
"""

import json
import sys
import time
import uuid

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from meshlog.v1 import catalog_pb2, catalog_pb2_grpc, record_pb2, record_pb2_grpc, schema_pb2

with open(sys.argv[1], encoding="utf-8") as file:
    SCENARIOS = json.load(file)["scenarios"]
BROKER, PROXY = sys.argv[2:4]

channel = grpc.insecure_channel(BROKER)
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


def create_product(given):
    catalog.CreateProduct(product_request(given["product"], given.get("partitions", 1)))


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


def create(given, expect):
    request = given["request"]
    request = product_request(
        request["product"], request["partitions"], request["description"], request["team"], request["contact"]
    )
    product = catalog.CreateProduct(request).product
    same("name", product.name, request.product.name)
    same("description", product.description, request.product.description)
    same("partitions", product.partitions, expect["partitions"])
    same("schema version", product.schema_version, expect["schema_version"])
    same("state", catalog_pb2.ProductState.Name(product.state), expect["state"])
    same("product read back", catalog.GetProduct(catalog_pb2.GetProductRequest(name=product.name)).product.id, product.id)
    check_failure(expect["again"], lambda: catalog.CreateProduct(request))


def split(given, expect):
    create_product(given)
    keys = [key.encode() for key in given["keys"]]
    answer = append(given["product"], *given["keys"], keys=keys)
    same("partitions of the records", list(answer.record_partitions), expect["record_partitions"])
    same("ranges", [(r.partition, r.first_offset, r.count) for r in answer.ranges],
         [(partition, 0, count) for partition, count in enumerate(expect["counts"])])
    for partition in range(given["partitions"]):
        found = records.Read(record_pb2.ReadRequest(product=given["product"], partitions=[partition]))
        here = [key for key, at in zip(given["keys"], expect["record_partitions"]) if at == partition]
        same(f"partition {partition}", [value for _, value in pairs(found)], here)


def read_from(given, expect):
    create_product(given)
    append(given["product"], *given["values"])
    found = records.Read(record_pb2.ReadRequest(product=given["product"], start=start({0: int(given["offset"])})))
    batch = found.batches[0]
    same("base offset", str(batch.base_offset), expect["base_offset"])
    same("count and skip", (batch.count, batch.skip), (expect["count"], expect["skip"]))
    same("records", list(pairs(found)), expect["records"])
    same("next offset", str(found.partitions[0].next_offset), expect["next_offset"])


def decode(given, expect):
    message = record_pb2.ReadResponse.FromString(bytes.fromhex(given["read_response"]))
    same("records", list(pairs(message)), expect["records"])
    same("next offsets", [str(state.next_offset) for state in message.partitions], expect["next_offsets"])
    resume = start({state.partition: state.next_offset for state in message.partitions})
    same("positions", resume.positions.SerializeToString().hex(), expect["positions"])


def follow(given, expect):
    create_product(given)
    append(given["product"], *given["before"])
    call = subscriptions.Subscribe(record_pb2.SubscribeRequest(product=given["product"]))
    live, found = given["live"], []
    for message in call:
        found += pairs(message)
        if len(found) >= len(given["before"]) and live:
            append(given["product"], live[0])
            live = live[1:]
        if len(found) >= len(expect["records"]):
            break
    call.cancel()
    same("records", found, expect["records"])


def resume(given, expect):
    create_product(given)
    values = [f"{number:05}".ljust(given["value_bytes"], ".") for number in range(expect["records"])]
    for first in range(0, len(values), given["records_per_batch"]):
        append(given["product"], *values[first : first + given["records_per_batch"]])
    stub = record_pb2_grpc.RecordServiceStub(grpc.insecure_channel(PROXY))
    positions, found, cuts = {}, [], 0
    while len(found) < len(values):
        request = record_pb2.SubscribeRequest(
            product=given["product"], start=start(positions), max_bytes=given["max_bytes"]
        )
        call = stub.Subscribe(request)
        try:
            for message in call:
                found += pairs(message)
                positions.update({state.partition: state.next_offset for state in message.partitions})
                if len(found) >= len(values):
                    call.cancel()
                    break
        except grpc.RpcError as error:
            same("code of a cut", error.code().name, expect["code"])
            cuts += 1
    same("records", found, [[str(offset), value] for offset, value in enumerate(values)])
    same(f"at least {expect['least_cuts']} cuts", cuts >= expect["least_cuts"], True)


def idle(given, expect):
    create_product(given)
    begun = time.monotonic()
    request = record_pb2.SubscribeRequest(
        product=given["product"],
        start=record_pb2.Start(edge=record_pb2.START_EDGE_LATEST),
        heartbeat_interval=Duration(seconds=given["interval_seconds"]),
    )
    call = subscriptions.Subscribe(request)
    for _ in range(1 + expect["heartbeats"]):  # the first message resolves the positions
        message = next(call)
        same("batches", len(message.batches), 0)
        same("next offsets", [str(state.next_offset) for state in message.partitions], expect["next_offsets"])
    call.cancel()
    same("in time", time.monotonic() - begun < expect["within_seconds"], True)


def fail(given, _):
    create_product(given)
    for call in given["calls"]:
        if "read" in call:
            request = record_pb2.ReadRequest(product=call["read"], start=start({0: int(call["offset"])}))
            check_failure(call["expect"], lambda request=request: records.Read(request))
        else:
            check_failure(call["expect"], lambda product=call["append"]: append(product, "x"))


def retry(given, expect):
    create_product(given)
    producer = uuid.uuid4().bytes
    for sequence, answer in zip(map(int, given["sequences"]), expect["answers"]):
        def call(sequence=sequence):
            who = record_pb2.Producer(id=producer, sequence=sequence)
            return append(given["product"], f"batch {sequence}", producer=who)
        if "reason" in answer:
            check_failure(answer, call)
        else:
            found = call()
            same("first offset", str(found.ranges[0].first_offset), answer["first_offset"])
            same("duplicate", found.duplicate, answer["duplicate"])
    check_end(given, expect)


def check_end(given, expect):
    offsets = records.ListOffsets(record_pb2.ListOffsetsRequest(product=given["product"]))
    same("durable end", str(offsets.partitions[0].durable_end), expect["next_offset"])


def retry_by_config(given, expect):
    create_product(given)
    config = json.dumps(given["service_config"])
    stub = record_pb2_grpc.RecordServiceStub(grpc.insecure_channel(PROXY, [("grpc.service_config", config)]))
    producer = uuid.uuid4().bytes
    for sequence in range(given["appends"]):
        value = f"{sequence:05}".ljust(given["value_bytes"], ".").encode()
        batch = record_pb2.RecordBatch(records=[record_pb2.Record(value=value)])
        who = record_pb2.Producer(id=producer, sequence=sequence)
        stub.Append(record_pb2.AppendRequest(product=given["product"], batch=batch, producer=who))
    check_end(given, expect)


def large(given, expect):
    create_product(given)
    values = [f"{number:05}".ljust(given["value_bytes"], ".").encode() for number in range(given["records"])]
    batch = record_pb2.RecordBatch(records=[record_pb2.Record(value=value) for value in values])
    request = record_pb2.AppendRequest(product=given["product"], batch=batch)
    same("size of the request", request.ByteSize() >= expect["least_request_bytes"], True)
    records.Append(request)
    found, responses, offset = [], 0, 0
    while len(found) < len(values):
        answer = records.Read(
            record_pb2.ReadRequest(product=given["product"], start=start({0: offset}), max_bytes=given["max_bytes"])
        )
        same("size of a response", answer.ByteSize() < expect["response_bytes_below"], True)
        found += pairs(answer)
        offset = answer.partitions[0].next_offset
        responses += 1
    same("records", found, [[str(offset), value.decode()] for offset, value in enumerate(values)])
    same("responses", responses >= expect["least_responses"], True)


ACTIONS = [create, split, read_from, decode, follow, resume, idle, fail, retry, retry_by_config, large]


def main():
    actions = {action.__name__: action for action in ACTIONS}
    failed = False
    for scenario in SCENARIOS:
        try:
            actions[scenario["action"]](scenario, scenario.get("expect"))
            print(f"ok {scenario['name']}", flush=True)
        except Exception as error:  # one scenario's failure must not hide the others
            failed = True
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAILED {scenario['name']}: {why[:500]}", flush=True)
    sys.exit(failed)


main()
