// Streams chats over TLS: node build/client.js MODEL [SECONDS]
//
// Reads a prompt a line. Ctrl-C ends an answer, and not the program. docs/clients/typescript.md explains it.

import * as fs from "node:fs";
import * as path from "node:path";
import * as readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";
import * as protobuf from "protobufjs";

import type { ProtoGrpcType } from "./gen/chat";
import type { ChatServiceClient } from "./gen/archestra/chat/v1/ChatService";
import type { StreamChatRequest } from "./gen/archestra/chat/v1/StreamChatRequest";
import type { StreamChatResponse__Output } from "./gen/archestra/chat/v1/StreamChatResponse";
import type { Usage, Usage__Output } from "./gen/archestra/chat/v1/Usage";

// The options must be those of proto-loader-gen-types, or the types are not true.
const contract = loader.loadSync("archestra/chat/v1/chat.proto", {
  includeDirs: [path.join(__dirname, "../../../proto")],
  keepCase: true,
  longs: String,
  enums: String,
  oneofs: true,
});
const { ChatService } = (grpc.loadPackageDefinition(contract) as unknown as ProtoGrpcType).archestra.chat.v1;

/** A client of the gateway. It connects with the first call. */
function connect(): ChatServiceClient {
  const authorities = file("CHAT_GATEWAY_CA");
  const server = variable("CHAT_GATEWAY_SERVER").replace("https://", "");
  if (process.env.CHAT_GATEWAY_CLIENT_CERTIFICATE) {
    const [key, certificate] = [file("CHAT_GATEWAY_CLIENT_KEY"), file("CHAT_GATEWAY_CLIENT_CERTIFICATE")];
    return new ChatService(server, grpc.credentials.createSsl(authorities, key, certificate), CHANNEL);
  }
  const token = grpc.credentials.createFromMetadataGenerator((_, callback) => {
    fs.readFile(variable("CHAT_GATEWAY_TOKEN_FILE"), "utf8", (error, text) => {
      const metadata = new grpc.Metadata();
      if (!error) metadata.set("authorization", `Bearer ${text.trim()}`);
      callback(error, metadata);
    });
  });
  const credentials = grpc.credentials.combineChannelCredentials(grpc.credentials.createSsl(authorities), token);
  return new ChatService(server, credentials, CHANNEL);
}

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

function file(name: string): Buffer {
  return fs.readFileSync(variable(name));
}

const CHANNEL: grpc.ChannelOptions = {
  // A gateway that vanished is noticed after 40 s, also while a model thinks and nothing is sent.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // What `Chat` returns at once may have 16 MiB; unless told, clients read 4 MiB.
  "grpc.max_receive_message_length": 32 * 1024 * 1024,
  // Several gateways behind one name take turns.
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
};

const details = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`, { keepCase: true }).root;

function decode(type: string, bytes: Uint8Array): { [field: string]: any } {
  const known = details.lookupType(`google.rpc.${type}`);
  return known.toObject(known.decode(bytes), { longs: Number, defaults: true });
}

/** What a failed call says. */
interface Failure {
  code: grpc.status;
  text: string;
  reason: string;
  metadata: { [name: string]: string };
  retryAfterMs?: number;
}

function failureOf(error: grpc.ServiceError): Failure {
  const failure: Failure = { code: error.code, text: error.details, reason: "", metadata: {} };
  const [status] = error.metadata.get("grpc-status-details-bin") as Buffer[];
  for (const detail of status ? decode("Status", status).details : []) {
    if (detail.type_url.endsWith("/google.rpc.ErrorInfo")) {
      const { reason, metadata } = decode("ErrorInfo", detail.value);
      Object.assign(failure, { reason, metadata });
    } else if (detail.type_url.endsWith("/google.rpc.RetryInfo")) {
      const { seconds, nanos } = decode("RetryInfo", detail.value).retry_delay;
      failure.retryAfterMs = seconds * 1000 + nanos / 1e6;
    }
  }
  return failure;
}

function isServiceError(error: unknown): error is grpc.ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

const ATTEMPTS_MAX = 4;
const [FIRST_WAIT_MS, WAIT_MS_MAX] = [500, 20_000];

/**
 * Yields the events of an answer. Throws a ServiceError if it is not whole. Leaving the loop, and the
 * signal, end the call, and the provider's work with it.
 */
async function* stream(
  chats: ChatServiceClient,
  request: StreamChatRequest,
  seconds: number,
  signal: AbortSignal,
): AsyncGenerator<StreamChatResponse__Output> {
  const deadline = Date.now() + seconds * 1000;
  for (let attempt = 1; ; attempt++) {
    let begun = false;
    let waitMs: number | undefined;
    const call = chats.StreamChat(request, { deadline });
    const cancel = () => call.cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      for await (const response of call) {
        begun = true;
        yield response as StreamChatResponse__Output;
      }
      return;
    } catch (error) {
      waitMs = isServiceError(error) ? waitBeforeRepeat(failureOf(error), attempt) : undefined;
      if (begun || waitMs === undefined || Date.now() + waitMs >= deadline) throw error;
    } finally {
      signal.removeEventListener("abort", cancel);
      call.cancel();
    }
    await sleep(waitMs, undefined, { signal });
  }
}

/** How long to wait before the call is made again. Undefined if it is not. */
function waitBeforeRepeat(failure: Failure, attempt: number): number | undefined {
  const passes =
    failure.code === grpc.status.UNAVAILABLE ||
    failure.retryAfterMs !== undefined ||
    failure.reason === "PROVIDER_RATE_LIMITED";
  if (failure.code === grpc.status.ABORTED || !passes || attempt === ATTEMPTS_MAX) return undefined;
  // At random, so that clients which failed together do not come back together.
  const waitMs = Math.min(FIRST_WAIT_MS * 2 ** (attempt - 1), WAIT_MS_MAX) * (0.5 + Math.random() / 2);
  return Math.max(waitMs, failure.retryAfterMs ?? 0);
}

/** Prints an answer as it arrives. */
async function answer(chats: ChatServiceClient, model: string, prompt: string, seconds: number, signal: AbortSignal) {
  const request: StreamChatRequest = {
    organization_id: process.env.CHAT_GATEWAY_ORGANIZATION ?? "default",
    profile_id: process.env.CHAT_GATEWAY_PROFILE,
    model,
    messages: [{ role: "ROLE_USER", parts: [{ text: { text: prompt } }] }],
  };
  for await (const response of stream(chats, request, seconds, signal)) {
    // Events that this program does not know are passed over: later versions add some.
    if (response.text_delta) process.stdout.write(response.text_delta.text ?? "");
    if (response.finished) {
      const { finish_reason, usage } = response.finished;
      console.log(`\n[${finish_reason}, ${usage?.total_tokens} tokens]`);
    }
  }
}

/** Says what failed. Of an answer that broke off, also what it has used. */
function explain(error: grpc.ServiceError) {
  const { code, reason, text, metadata } = failureOf(error);
  console.log(`\n${grpc.status[code]} ${reason}: ${text}`, metadata);
  for (const bytes of error.metadata.get("archestra-usage-bin")) {
    const type = contract["archestra.chat.v1.Usage"] as loader.MessageTypeDefinition<Usage, Usage__Output>;
    console.log(`[broken off after ${type.deserialize(bytes as Buffer).total_tokens} tokens]`);
  }
}

async function main(model: string, seconds = "300"): Promise<number> {
  const chats = connect();
  let [failed, stop] = [false, new AbortController()];
  process.on("SIGINT", () => stop.abort());
  for await (const line of readline.createInterface({ input: process.stdin })) {
    stop = new AbortController();
    try {
      await answer(chats, model, line.trim(), Number(seconds), stop.signal);
    } catch (error) {
      if (stop.signal.aborted) console.log("\n[cancelled]");
      else if (isServiceError(error)) explain(error);
      else throw error;
      failed ||= !stop.signal.aborted;
    }
  }
  chats.close();
  return failed ? 1 : 0;
}

if (process.argv.length < 3) {
  console.error("node build/client.js MODEL [SECONDS]");
  process.exitCode = 1;
} else {
  main(process.argv[2]!, process.argv[3]).then((code) => (process.exitCode = code));
}
