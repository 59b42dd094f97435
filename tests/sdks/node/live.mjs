// Live sessions with unmodified JavaScript SDKs; steps and events are those of ../python/live.py.
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { RealtimeEvents as BrowserEvents, Scribe } from "@elevenlabs/client";
import { ElevenLabsClient, RealtimeEvents } from "@elevenlabs/elevenlabs-js";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { WebSocket } from "ws";

const CHUNK_S = 0.1, PATIENCE_MS = 40_000;

// What browsers have; OpenAI's SDK makes any address one with TLS, which this server leaves to others.
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(String(url).replace(/^wss:/, "ws:"), protocols);
  }
};
// What a browser's SDK prints would be taken for an answer.
console.log = console.warn = console.error = () => {};

class Heard {
  events = [];
  waiting = new Set();

  put(type, event) {
    this.events.push({ type, event: event instanceof Error ? { error: event.message } : (event ?? null) });
    for (const look of this.waiting) look();
  }

  wait(type, many = 1) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (this.events.filter((one) => one.type === type).length < many) return;
        clearTimeout(late);
        this.waiting.delete(look);
        resolve();
      };
      const late = setTimeout(() => {
        this.waiting.delete(look);
        reject(Object.assign(new Error(`no ${type}`), { body: this.events }));
      }, PATIENCE_MS);
      this.waiting.add(look);
      look();
    });
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function stepped(told, heard, send, others) {
  const content = readFileSync(told.file), second = 2 * told.rate, step = Math.floor(second * CHUNK_S);
  for (const [name, ...args] of told.steps) {
    if (name === "wait") await heard.wait(...args);
    else if (name !== "send") await others[name](...args);
    else {
      const [from, to] = args.map((at) => Math.min(Math.floor(at * second), content.length));
      for (let at = from; at < to; at += step) {
        send(content.subarray(at, Math.min(at + step, to)).toString("base64"));
        await pause((CHUNK_S * 1000) / (told.pace ?? 10));
      }
    }
  }
}

async function eleven(told, heard) {
  const client = new ElevenLabsClient({ baseUrl: told.url, apiKey: told.key });
  const connection = await client.speechToText.realtime.connect(told.args);
  await scribed(told, heard, connection, RealtimeEvents);
}

async function scribed(told, heard, connection, events) {
  for (const type of new Set(Object.values(events))) connection.on(type, (event) => heard.put(type, event));
  let first = told.first ?? {};
  const send = (audioBase64) => {
    connection.send({ audioBase64, ...first });
    first = {};
  };
  const others = { commit: () => connection.commit(), close: () => connection.close() };
  await stepped(told, heard, send, others);
  connection.close();
}

async function browser(told, heard) {
  const baseUri = told.url.replace(/^http/, "ws");
  await scribed(told, heard, Scribe.connect({ ...told.args, token: told.token, baseUri }), BrowserEvents);
}

async function opened(told, heard) {
  const client = new OpenAI({ baseURL: told.url + "/v1", apiKey: told.key, dangerouslyAllowBrowser: true });
  const model = told.model ?? "gpt-realtime";
  const { hostname, port } = new URL(told.url);
  const connection = told.vendor === "openai-browser"
    ? new OpenAIRealtimeWebSocket({ model, dangerouslyAllowBrowser: true }, client)
    : new OpenAIRealtimeWS({ model, options: { createConnection: () => connect(port, hostname) } }, client);
  connection.on("event", (event) => heard.put(event.type, event));
  connection.on("error", (error) => heard.put("raised", { error: error.message, inner: error.error ?? null }));
  const send = (event) => connection.send(event);
  connection.socket.addEventListener("close", ({ code, reason }) => heard.put("close", { code, reason }));
  await stepped(told, heard, (audio) => send({ type: "input_audio_buffer.append", audio }), {
    commit: () => send({ type: "input_audio_buffer.commit" }),
    clear: () => send({ type: "input_audio_buffer.clear" }),
    update: (session) => send({ type: "session.update", session }),
    event: send,
    close: () => connection.close(),
  });
  connection.close();
}

const SESSIONS = { elevenlabs: eleven, "elevenlabs-browser": browser, openai: opened, "openai-browser": opened };

// A session and what came of it.
export async function live(told) {
  const heard = new Heard();
  // ElevenLabs' URL mode goes on sending after it has closed.
  const stray = (error) => heard.put("uncaught", error);
  process.on("uncaughtException", stray);
  try {
    await SESSIONS[told.vendor](told, heard);
    return { ok: heard.events };
  } finally {
    process.off("uncaughtException", stray);
  }
}
