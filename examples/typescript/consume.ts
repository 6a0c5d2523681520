// Prints the greetings from the first one on, and then each new one until Ctrl-C.

import { setTimeout } from "node:timers/promises";
import { credentials, type ServiceError, status } from "@grpc/grpc-js";
import { RecordServiceClient, SubscribeRequest, type SubscribeResponse } from "./gen/meshlog/v1/record.js";

const address = process.env.MESHLOG_SERVER ?? "127.0.0.1:7420";
const records = new RecordServiceClient(address, credentials.createInsecure());
// By partition; a program that keeps these beside its results goes on there after a restart.
const nextOffsets = new Map<number, bigint>();

while (true) {
  const positions = Array.from(nextOffsets, ([partition, offset]) => ({ partition, offset }));
  const request = SubscribeRequest.create({ product: "sandbox.greetings", start: { positions: { positions } } });
  try {
    for await (const message of records.subscribe(request) as AsyncIterable<SubscribeResponse>) {
      for (const { baseOffset, skip, offsetDeltas, batch } of message.batches) {
        for (const [index, { key, value }] of [...batch!.records.entries()].slice(skip)) {
          const offset = baseOffset + BigInt(offsetDeltas[index] ?? index);
          console.log(`${offset} ${key} ${value}`);
        }
      }
      for (const { partition, nextOffset } of message.partitions) nextOffsets.set(partition, nextOffset);
    }
  } catch (error) {
    if ((error as ServiceError).code !== status.UNAVAILABLE) throw error;
    await setTimeout(1000); // the broker is away; the positions are still right
  }
}
