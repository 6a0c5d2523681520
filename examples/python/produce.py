"""Appends three greetings."""

import os
import uuid

import grpc
from meshlog.v1.catalog_pb2 import CreateProductRequest, Product
from meshlog.v1.catalog_pb2_grpc import CatalogServiceStub
from meshlog.v1.record_pb2 import AppendRequest, Producer, Record, RecordBatch
from meshlog.v1.record_pb2_grpc import RecordServiceStub

channel = grpc.insecure_channel(os.environ.get("MESHLOG_SERVER", "127.0.0.1:7420"))

product = Product(name="sandbox.greetings")
try:
    CatalogServiceStub(channel).CreateProduct(CreateProductRequest(product=product))
except grpc.RpcError as error:
    if error.code() != grpc.StatusCode.ALREADY_EXISTS:
        raise

greetings = {"en": "hello", "fr": "bonjour", "eo": "saluton"}
records = [Record(key=key.encode(), value=f'{{"greeting":"{value}"}}'.encode()) for key, value in greetings.items()]
# If the answer is lost, the same request can be sent again: the broker knows producer and sequence.
producer = Producer(id=uuid.uuid4().bytes, sequence=0)
request = AppendRequest(product=product.name, batch=RecordBatch(records=records), producer=producer)

appended = RecordServiceStub(channel).Append(request, timeout=10).ranges[0]
print(f"appended {appended.count} records from offset {appended.first_offset}")
