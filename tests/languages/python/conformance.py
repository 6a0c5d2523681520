"""The scenarios of scenarios.json in Python: `conformance.py SCENARIOS BROKER PROXY`.

Only generated stubs and grpcio. Prints one line per scenario.
"""

import json
import sys
import time
import uuid

import grpc
from google.protobuf.duration_pb2 import Duration
from meshlog.v1 import admin_pb2, catalog_pb2, record_pb2, record_pb2_grpc
from support import (
    admin, append, catalog, check_end, check_failure, create_product, pairs, product_request, read_all, records, same, start,
    subscriptions,
)

with open(sys.argv[1], encoding="utf-8") as file:
    SCENARIOS = json.load(file)["scenarios"]
PROXY = sys.argv[3]


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


def compact(given, expect):
    create_product(given, catalog_pb2.ProductSettings(compaction=catalog_pb2.Compaction()))
    product, step = given["product"], given["records_per_batch"]
    values = [f"{number:05}".ljust(given["value_bytes"], ".") for number in range(given["records"])]
    for first in range(0, len(values), step):
        numbers = range(first, first + step)
        # Some keys come once, so of each batch something is left.
        keys = [f"own {n}" if n % given["own_key_every"] == 0 else f"key {n % step}" for n in numbers]
        append(product, *values[first : first + step], keys=[key.encode() for key in keys])

    def check(found):
        same("records", found, [[offset, values[int(offset)]] for offset, _ in found])
        newest = range(len(values) - step, len(values))
        same("the newest of each key", found[-step:], [[str(offset), values[offset]] for offset in newest])

    begun = time.monotonic()
    while len(found := read_all(product)) > expect["most_records"]:
        same("compacted in time", time.monotonic() - begun < expect["within_seconds"], True)
        time.sleep(0.2)
    check(found)
    begin = int(given["trim_before"])
    request = admin_pb2.TrimProductRequest(product=product, before_offsets=start({0: begin}).positions)
    same("start offset", admin.TrimProduct(request).partitions[0].start_offset, begin)
    check_failure(expect["late"], lambda: read_all(product))
    left = read_all(product, begin)
    check(left)
    same("nothing before the trim", int(left[0][0]) >= begin, True)


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
    values = [f"{number:05}".ljust(given["value_bytes"], ".") for number in range(expect["record_count"])]
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


ACTIONS = [create, split, read_from, decode, compact, follow, resume, idle, fail, retry, retry_by_config, large]


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
