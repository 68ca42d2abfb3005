// Judges deliveries by the page's functions: a line of base64 fields in, true or false a line out.
import { readFileSync } from "node:fs";
import { verifyBody, verifyStandard, verifyTimestamped } from "./snippet.mjs";

for (const line of readFileSync(0, "utf8").split("\n").slice(0, -1)) {
  const fields = line.split("\t").map((field) => Buffer.from(field, "base64"));
  const [kind, secret, id, timestamp, signature, now] = fields.map(String);
  const [body, clock] = [fields[6], now ? [Number(now)] : []];
  const judges = {
    standard: () => verifyStandard(secret, id, timestamp, signature, body, ...clock),
    timestamped: () => verifyTimestamped(secret, signature, body, ...clock),
    body: () => verifyBody(secret, signature, body),
  };
  console.log(judges[kind]());
}
