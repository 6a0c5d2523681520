// Appends three greetings.

import { randomBytes } from "node:crypto";
import { credentials, type ServiceError, status } from "@grpc/grpc-js";
import { CatalogServiceClient, CreateProductRequest } from "./gen/meshlog/v1/catalog.js";
import { AppendRequest, type AppendResponse, RecordServiceClient } from "./gen/meshlog/v1/record.js";

const address = process.env.MESHLOG_SERVER ?? "127.0.0.1:7420";
const catalog = new CatalogServiceClient(address, credentials.createInsecure());
const records = new RecordServiceClient(address, credentials.createInsecure());

const product = "sandbox.greetings";
await new Promise<void>((resolve, reject) =>
  catalog.createProduct(CreateProductRequest.create({ product: { name: product } }), (error: ServiceError | null) =>
    error && error.code !== status.ALREADY_EXISTS ? reject(error) : resolve(),
  ),
);

const greetings = { en: "hello", fr: "bonjour", eo: "saluton" };
const request = AppendRequest.create({
  product,
  batch: {
    records: Object.entries(greetings).map(([key, greeting]) => ({
      key: Buffer.from(key),
      value: Buffer.from(JSON.stringify({ greeting })),
    })),
  },
  // If the answer is lost, the same request can be sent again: the broker knows producer and sequence.
  producer: { id: randomBytes(16), sequence: 0n },
});
const answer = await new Promise<AppendResponse>((resolve, reject) =>
  records.append(request, (error, answer) => (error ? reject(error) : resolve(answer))),
);
const { count, firstOffset } = answer.ranges[0]!;
console.log(`appended ${count} records from offset ${firstOffset}`);

catalog.close();
records.close();
