// Queues a file for a model with node-redis, and prints the answer: node producer.js REDIS_URL MODEL FILE [TYPE]
// npm install redis

const crypto = require("crypto");
const fs = require("fs");
const { createClient, RESP_TYPES } = require("redis");

const LONGEST_MS = 60_000;

async function main() {
  const [url, model, file, type = ""] = process.argv.slice(2);
  const client = await createClient({ url }).connect();
  const answers = `answers:${crypto.randomUUID()}`;
  const request = { type, reply: answers, body: fs.readFileSync(file) };
  await client.xAdd(`marq:{${model}}:normal:1.0`, "*", request);
  const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  const found = await bytes.xRead({ key: answers, id: "0" }, { BLOCK: LONGEST_MS });
  if (found === null) {
    console.error("No answer.");
    process.exitCode = 1;
  } else {
    const reply = found[0].messages[0].message;
    process.stdout.write(reply.body);
    process.exitCode = reply.status.toString() === "200" ? 0 : 1;
    await client.del(answers);
  }
  await client.close();
}

main();
