// Calls with unmodified JavaScript SDKs: as ../driver.py, a JSON line in, a JSON line out.
import { createReadStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { basename } from "node:path";
import { createElevenLabs } from "@ai-sdk/elevenlabs";
import { ElevenLabsClient } from "@elevenlabs/elevenlabs-js";
import OpenAI, { toFile } from "openai";
import { live } from "./live.mjs";

const read = (path) => JSON.parse(readFileSync(path));
const names = Object.keys(read("package.json").dependencies);
const versions = Object.fromEntries(
  names.map((name) => [`${name} (npm)`, read(`node_modules/${name}/package.json`).version]),
);
const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const snake = (name) => name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase());
const RAW = new Set(["webhookMetadata", "webhook_metadata"]);

function renamed(value, how) {
  if (Array.isArray(value)) return value.map((one) => renamed(one, how));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [how(name), RAW.has(name) ? one : renamed(one, how)]),
  );
}

async function given(told) {
  const name = basename(told.file);
  if (told.how === "bytes") return new Blob([readFileSync(told.file)]);
  if (told.how === "named") return toFile(readFileSync(told.file), name);
  return createReadStream(told.file);
}

async function performed(told) {
  const eleven = told.vendor === "elevenlabs";
  const client = eleven
    ? new ElevenLabsClient({ baseUrl: told.url, apiKey: told.key, maxRetries: 0 })
    : new OpenAI({ baseURL: told.url + "/v1", apiKey: told.key, maxRetries: 0 });
  let owner = client;
  const path = told.call.split(".").map(camel);
  const method = path.pop();
  for (const name of path) owner = owner[name];
  let args = told.args ?? {};
  if (eleven) args = renamed(args, camel);
  if (told.file) args = { ...args, file: await given(told) };
  const positional = told.positional ?? [];
  if (method === "del" && !(method in owner)) throw new Error("no such call");
  const began = performance.now();
  const answer = await owner[method](...positional, ...(Object.keys(args).length ? [args] : []));
  if (args.stream) {
    const ok = [], at = [];
    for await (const event of answer) {
      ok.push(event);
      at.push((performance.now() - began) / 1000);
    }
    return { ok, at };
  }
  return { ok: eleven ? renamed(JSON.parse(JSON.stringify(answer ?? null)), snake) : answer };
}

// Vercel's SDK has no base URL: its `fetch` goes elsewhere.
async function spoken(told) {
  const provider = createElevenLabs({
    apiKey: told.key,
    fetch: (url, options) => fetch(url.replace("https://api.elevenlabs.io", told.url), options),
  });
  const answer = await provider.transcription(told.model).doGenerate({
    audio: new Uint8Array(readFileSync(told.file)),
    mediaType: "audio/wav",
    providerOptions: Object.keys(told.args).length ? { elevenlabs: told.args } : {},
  });
  return { ok: { ...answer, response: answer.response.body } };
}

async function verified(told) {
  const client = new ElevenLabsClient({ apiKey: "k" });
  return { ok: await client.webhooks.constructEvent(told.body, told.signature, told.secret) };
}

const out = (told) => process.stdout.write(JSON.stringify(told) + "\n");
out(versions);
for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  let said;
  try {
    const perform = told.call?.startsWith("live") ? live : told.vendor === "ai-sdk" ? spoken : performed;
    said = await ("signature" in told ? verified : perform)(told);
  } catch (error) {
    const body = error.body ?? error.error ?? error.responseBody ?? null;
    said = { error: error.constructor.name, status: error.statusCode ?? error.status ?? null, body, text: error.message };
  }
  out(said);
}
