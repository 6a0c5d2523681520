"""Prints the greetings from the first one on, and then each new one until Ctrl-C."""

import os
import time

import grpc
from meshlog.v1.record_pb2 import Position, Positions, Start, SubscribeRequest
from meshlog.v1.record_pb2_grpc import RecordServiceStub

records = RecordServiceStub(grpc.insecure_channel(os.environ.get("MESHLOG_SERVER", "127.0.0.1:7420")))
next_offsets = {}  # by partition; a program that keeps these beside its results goes on there after a restart

while True:
    positions = [Position(partition=partition, offset=offset) for partition, offset in next_offsets.items()]
    start = Start(positions=Positions(positions=positions))
    try:
        for message in records.Subscribe(SubscribeRequest(product="sandbox.greetings", start=start)):
            for stored in message.batches:
                for index, record in list(enumerate(stored.batch.records))[stored.skip :]:
                    offset = stored.base_offset + (stored.offset_deltas[index] if stored.offset_deltas else index)
                    print(offset, record.key.decode(), record.value.decode(), flush=True)
            next_offsets.update({state.partition: state.next_offset for state in message.partitions})
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        time.sleep(1)  # the broker is away; the positions are still right
