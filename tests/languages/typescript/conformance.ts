// The scenarios of scenarios.json in TypeScript: `node conformance.js SCENARIOS BROKER PROXY`.
//
// Only generated stubs and grpc-js. Prints one line per scenario.

import { deepStrictEqual as equal } from "node:assert";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { type ServiceError, status } from "@grpc/grpc-js";
import { type GetProductResponse, productStateToJSON } from "./gen/meshlog/v1/catalog.js";
import { AppendRequest, Positions, ReadRequest, ReadResponse, StartEdge } from "./gen/meshlog/v1/record.js";
import {
  admin, append, batchOf, catalog, checkEnd, checkFailure, connect, createProduct, type Json, nextOffsets, numbered,
  numberedPairs, pairs, productRequest, read, readAll, records, startAt, subscribe, subscriptions, trim, unary,
} from "./support.js";

const [file, , proxy] = process.argv.slice(2) as [string, string, string];

const actions: { [action: string]: (given: Json, expect: Json) => Promise<void> } = {
  async create({ request: wish }, expect) {
    const request = productRequest(wish);
    const product = (await createProduct(request)).product!;
    equal([product.name, product.description], [wish.product, wish.description]);
    equal([product.partitions, product.schemaVersion], [expect.partitions, expect.schema_version]);
    equal(productStateToJSON(product.state), expect.state);
    const found = await unary<GetProductResponse>((done) => catalog.getProduct({ name: wish.product }, done));
    equal(found.product!.id, product.id);
    await checkFailure(expect.again, createProduct(request));
  },

  async split(given, expect) {
    await createProduct(productRequest(given));
    const answer = await append({ product: given.product, batch: batchOf(given.keys, given.keys) });
    equal(answer.recordPartitions, expect.record_partitions);
    equal(
      answer.ranges.map((range) => [range.partition, range.firstOffset, range.count]),
      expect.counts.map((count: number, partition: number) => [partition, 0n, count]),
    );
    for (let partition = 0; partition < given.partitions; partition++) {
      const found = await read(ReadRequest.create({ product: given.product, partitions: [partition] }));
      const here = given.keys.filter((_: string, index: number) => expect.record_partitions[index] === partition);
      equal(pairs(found.batches), numberedPairs(here));
    }
  },

  async read_from(given, expect) {
    await createProduct(productRequest(given));
    await append({ product: given.product, batch: batchOf(given.values) });
    const found = await read(ReadRequest.create({ product: given.product, start: startAt(BigInt(given.offset)) }));
    const { baseOffset, count, skip } = found.batches[0]!;
    equal([String(baseOffset), count, skip], [expect.base_offset, expect.count, expect.skip]);
    equal(pairs(found.batches), expect.records);
    equal(nextOffsets(found.partitions), [expect.next_offset]);
  },

  async decode(given, expect) {
    const message = ReadResponse.decode(Buffer.from(given.read_response, "hex"));
    equal(pairs(message.batches), expect.records);
    equal(nextOffsets(message.partitions), expect.next_offsets);
    const positions = message.partitions.map(({ partition, nextOffset }) => ({ partition, offset: nextOffset }));
    equal(Buffer.from(Positions.encode({ positions }).finish()).toString("hex"), expect.positions);
  },

  async compact(given, expect) {
    const { product, records_per_batch: step } = given;
    await createProduct(productRequest({ ...given, settings: { compaction: {} } }));
    const values = numbered(given.records, given.value_bytes);
    const all = numberedPairs(values);
    for (let first = 0; first < values.length; first += step) {
      // Some keys come once, so of each batch something is left.
      const key = (n: number) => (n % given.own_key_every === 0 ? `own ${n}` : `key ${n % step}`);
      const keys = Array.from({ length: step }, (_, index) => key(first + index));
      await append({ product, batch: batchOf(values.slice(first, first + step), keys) });
    }
    const check = (found: [string, string | null][]) => {
      equal(found, found.map(([offset]) => all[Number(offset)]));
      equal(found.slice(-step), all.slice(-step));
    };
    const begun = Date.now();
    let found = await readAll(product);
    for (; found.length > expect.most_records; found = await readAll(product)) {
      equal(Date.now() - begun < expect.within_seconds * 1000, true, "not compacted in time");
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    check(found);
    const begin = BigInt(given.trim_before);
    const trimmed = await trim({ product, beforeOffsets: startAt(begin).positions });
    equal(trimmed.partitions[0]!.startOffset, begin);
    await checkFailure(expect.late, readAll(product));
    const left = await readAll(product, begin);
    check(left);
    equal(BigInt(left[0]![0]) >= begin, true, "something before the trim");
  },

  async follow(given, expect) {
    await createProduct(productRequest(given));
    await append({ product: given.product, batch: batchOf(given.before) });
    const found: unknown[] = [];
    const live = [...given.live];
    await subscribe(subscriptions, { product: given.product }, async (message) => {
      found.push(...pairs(message.batches));
      if (found.length >= given.before.length && live.length > 0) {
        await append({ product: given.product, batch: batchOf([live.shift()]) });
      }
      return found.length < expect.records.length;
    });
    equal(found, expect.records);
  },

  async resume(given, expect) {
    await createProduct(productRequest(given));
    const values = numbered(expect.record_count, given.value_bytes);
    for (let first = 0; first < values.length; first += given.records_per_batch) {
      await append({ product: given.product, batch: batchOf(values.slice(first, first + given.records_per_batch)) });
    }
    const client = connect(proxy);
    const found: unknown[] = [];
    let [position, cuts] = [0n, 0];
    while (found.length < values.length) {
      const request = { product: given.product, start: startAt(position), maxBytes: given.max_bytes };
      try {
        await subscribe(client, request, (message) => {
          found.push(...pairs(message.batches));
          position = message.partitions[0]?.nextOffset ?? position;
          return found.length < values.length;
        });
      } catch (error) {
        equal(status[(error as ServiceError).code], expect.code);
        cuts++;
      }
    }
    client.close();
    equal(found, numberedPairs(values));
    equal(cuts >= expect.least_cuts, true, `only ${cuts} cuts`);
  },

  async idle(given, expect) {
    await createProduct(productRequest(given));
    const begun = Date.now();
    let messages = 0;
    const request = {
      product: given.product,
      start: { edge: StartEdge.START_EDGE_LATEST },
      heartbeatInterval: { seconds: BigInt(given.interval_seconds), nanos: 0 },
    };
    await subscribe(subscriptions, request, (message) => {
      equal(message.batches, []);
      equal(nextOffsets(message.partitions), expect.next_offsets);
      return ++messages < 1 + expect.heartbeats; // the first message resolves the positions
    });
    equal(Date.now() - begun < expect.within_seconds * 1000, true, "not in time");
  },

  async fail(given) {
    await createProduct(productRequest(given));
    for (const call of given.calls) {
      const failing = call.read
        ? read(ReadRequest.create({ product: call.read, start: startAt(BigInt(call.offset)) }))
        : append({ product: call.append, batch: batchOf(["x"]) });
      await checkFailure(call.expect, failing);
    }
  },

  async retry(given, expect) {
    await createProduct(productRequest(given));
    const id = randomBytes(16);
    for (const [index, answer] of expect.answers.entries()) {
      const producer = { id, sequence: BigInt(given.sequences[index]) };
      const batch = batchOf([`batch ${producer.sequence}`]);
      const call = append({ product: given.product, batch, producer });
      if (answer.reason) {
        await checkFailure(answer, call);
      } else {
        const { ranges, duplicate } = await call;
        equal([String(ranges[0]!.firstOffset), duplicate], [answer.first_offset, answer.duplicate]);
      }
    }
    await checkEnd(given);
  },

  async retry_by_config(given) {
    await createProduct(productRequest(given));
    const client = connect(proxy, { "grpc.service_config": JSON.stringify(given.service_config) });
    const id = randomBytes(16);
    for (const [index, value] of numbered(given.appends, given.value_bytes).entries()) {
      const producer = { id, sequence: BigInt(index) };
      await append({ product: given.product, batch: batchOf([value]), producer }, client);
    }
    client.close();
    await checkEnd(given);
  },

  async large(given, expect) {
    await createProduct(productRequest(given));
    const values = numbered(given.records, given.value_bytes);
    const request = AppendRequest.create({ product: given.product, batch: batchOf(values) });
    equal(AppendRequest.encode(request).finish().length >= expect.least_request_bytes, true, "the request is small");
    await append(request);
    const found: unknown[] = [];
    let [offset, responses] = [0n, 0];
    for (; found.length < values.length; responses++) {
      const start = startAt(offset);
      const answer = await read(ReadRequest.create({ product: given.product, start, maxBytes: given.max_bytes }));
      equal(ReadResponse.encode(answer).finish().length < expect.response_bytes_below, true, "a response is too large");
      found.push(...pairs(answer.batches));
      offset = answer.partitions[0]!.nextOffset;
    }
    equal(found, numberedPairs(values));
    equal(responses >= expect.least_responses, true, "too few responses");
  },
};

for (const scenario of JSON.parse(readFileSync(file, "utf8")).scenarios) {
  try {
    const action = actions[scenario.action];
    if (!action) throw new Error(`this program does not know the action ${scenario.action}`);
    await action(scenario, scenario.expect);
    console.log(`ok ${scenario.name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED ${scenario.name}: ${String(error).replaceAll(/\s+/g, " ").slice(0, 500)}`);
  }
}
for (const client of [admin, catalog, records, subscriptions]) client.close();
