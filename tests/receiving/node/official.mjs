// Verifies deliveries by the library that is named: a line of JSON {secret, headers, body} in, true or false a line out.
import { readFileSync } from "node:fs";

const { Webhook, WebhookVerificationError } = await import(process.argv[2]);

for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
  const { secret, headers, body } = JSON.parse(line);
  const webhook = secret.startsWith("whsec_") ? new Webhook(secret) : new Webhook(Buffer.from(secret), { format: "raw" });
  console.log(verifies(webhook, headers, Buffer.from(body, "base64")));
}

function verifies(webhook, headers, body) {
  try {
    webhook.verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    throw error;
  }
}
