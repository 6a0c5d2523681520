// What the scenarios share: connections, requests, and how answers and errors are read.

import { deepStrictEqual as equal } from "node:assert";
import { type ChannelOptions, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { ErrorInfo } from "./gen/google/rpc/error_details.js";
import { Status } from "./gen/google/rpc/status.js";
import { AdminServiceClient, TrimProductRequest, type TrimProductResponse } from "./gen/meshlog/v1/admin.js";
import {
  CatalogServiceClient, Classification, CreateProductRequest, type CreateProductResponse,
} from "./gen/meshlog/v1/catalog.js";
import {
  AppendRequest, type AppendResponse, type DeepPartial, type ListOffsetsResponse, ListOffsetsRequest, type PartitionState,
  ReadRequest, type ReadResponse, RecordBatch, RecordServiceClient, type Start, type StoredBatch, SubscribeRequest,
  type SubscribeResponse,
} from "./gen/meshlog/v1/record.js";
import { SchemaFormat } from "./gen/meshlog/v1/schema.js";

/** What a scenario gives and expects; each action knows its own fields. */
export type Json = any;

const broker = process.argv[3]!;
export const connect = (address: string, options: ChannelOptions = {}) =>
  new RecordServiceClient(address, credentials.createInsecure(), options);
export const admin = new AdminServiceClient(broker, credentials.createInsecure());
export const catalog = new CatalogServiceClient(broker, credentials.createInsecure());
export const records = connect(broker);
// A subscription has a connection of its own; without the option, equal channels would share one.
export const subscriptions = connect(broker, { "grpc.use_local_subchannel_pool": 1 });

/** A unary call as a promise. */
export function unary<T>(call: (done: (error: ServiceError | null, answer: T) => void) => unknown): Promise<T> {
  return new Promise((resolve, reject) => call((error, answer) => (error ? reject(error) : resolve(answer))));
}

export const list = (request: ListOffsetsRequest) => unary<ListOffsetsResponse>((done) => records.listOffsets(request, done));
export const read = (request: ReadRequest) => unary<ReadResponse>((done) => records.read(request, done));
export const trim = (request: DeepPartial<TrimProductRequest>) =>
  unary<TrimProductResponse>((done) => admin.trimProduct(TrimProductRequest.create(request), done));
export const createProduct = (request: CreateProductRequest) =>
  unary<CreateProductResponse>((done) => catalog.createProduct(request, done));

export function productRequest(given: Json): CreateProductRequest {
  const { product: name, partitions = 1, description = "Made by a scenario" } = given;
  const { team = "shop-team", contact = "shop@example.org", settings } = given;
  return CreateProductRequest.create({
    product: { name, owner: team, description, partitions, classification: Classification.CLASSIFICATION_INTERNAL, settings },
    valueSchema: {
      format: SchemaFormat.SCHEMA_FORMAT_OPAQUE,
      mediaType: "text/plain",
      reason: "a scenario does not look inside",
    },
    newDomain: { name: name.split(".")[0], owner: team, description: "Scenarios" },
    newTeam: { name: team, contacts: [contact] },
  });
}

export const batchOf = (values: string[], keys: string[] = []) =>
  RecordBatch.create({
    records: values.map((value, index) => ({
      key: keys[index] === undefined ? undefined : Buffer.from(keys[index]),
      value: Buffer.from(value),
    })),
  });

export const append = (request: DeepPartial<AppendRequest>, client = records) =>
  unary<AppendResponse>((done) => client.append(AppendRequest.create(request), done));

/** At these offsets; partitions not named start at the beginning. */
export const startAt = (offset: bigint): Start => ({ positions: { positions: [{ partition: 0, offset }] } });

/** The [offset, value] of each record of a ReadResponse or a SubscribeResponse. */
export function pairs(batches: StoredBatch[]): [string, string | null][] {
  return batches.flatMap(({ batch, baseOffset, offsetDeltas, skip }) =>
    (batch?.records ?? [])
      .map((record, index): [string, string | null] => [
        String(baseOffset + BigInt(offsetDeltas[index] ?? index)),
        record.value === undefined ? null : Buffer.from(record.value).toString(),
      ])
      .slice(skip),
  );
}

/** Everything from an offset to the durable end. */
export async function readAll(product: string, offset = 0n) {
  const found: [string, string | null][] = [];
  for (;;) {
    const answer = await read(ReadRequest.create({ product, start: startAt(offset) }));
    const { nextOffset, durableEnd } = answer.partitions[0]!;
    found.push(...pairs(answer.batches));
    offset = nextOffset;
    if (offset >= durableEnd) return found;
  }
}

export const numbered = (count: number, bytes: number) =>
  Array.from({ length: count }, (_, number) => String(number).padStart(5, "0").padEnd(bytes, "."));
export const numberedPairs = (values: string[]) => values.map((value, offset) => [String(offset), value]);
export const nextOffsets = (states: PartitionState[]) => states.map((state) => String(state.nextOffset));

/** Compares the facts of a failed call, which must agree in status, details and plain trailers. */
export async function checkFailure(expect: Json, call: Promise<unknown>) {
  const error = await call.then(
    () => Promise.reject(new Error("the call succeeded")),
    (error: ServiceError) => error,
  );
  const [details] = error.metadata.get("grpc-status-details-bin");
  const packed = Status.decode(details as Buffer).details.find((any) => any.typeUrl.endsWith("/google.rpc.ErrorInfo"));
  const info = ErrorInfo.decode(packed!.value);
  equal(status[error.code], expect.code);
  equal([info.reason, info.domain], [expect.reason, "meshlog"]);
  equal(error.metadata.get("meshlog-reason"), [expect.reason]);
  equal(error.metadata.get("meshlog-applied"), [info.metadata.applied]);
  if (expect.applied) equal(info.metadata.applied, expect.applied);
  for (const [key, value] of Object.entries(expect.metadata ?? {})) equal(info.metadata[key], value);
}

export async function checkEnd(given: Json) {
  const offsets = await list(ListOffsetsRequest.create({ product: given.product }));
  equal(String(offsets.partitions[0]!.durableEnd), given.expect.next_offset);
}

/** Hands each message to `take` until it answers false; true if that was the end, and not a failure. */
export async function subscribe(
  client: RecordServiceClient,
  request: DeepPartial<SubscribeRequest>,
  take: (message: SubscribeResponse) => boolean | Promise<boolean>,
) {
  const call = client.subscribe(SubscribeRequest.create(request));
  try {
    for await (const message of call) if (!(await take(message))) break;
  } finally {
    call.on("error", () => {}); // the cancellation reports itself
    call.cancel();
  }
}
