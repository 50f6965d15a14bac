// Streams chats with grpc-js as it is: client.js ADDRESS PROTO_FOLDER FILE...
//
// Each file is a serialized StreamChatRequest. Prints a line of JSON for each: the code, the
// details of the status in base64, and the text of the answer.

const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const TIMEOUT_MS = 120_000;

const [address, proto, ...files] = process.argv.slice(2);
const contract = loader.loadSync("archestra/chat/v1/chat.proto", { includeDirs: [proto], keepCase: true });
const { ChatService } = grpc.loadPackageDefinition(contract).archestra.chat.v1;

async function main() {
  const chats = new ChatService(address, grpc.credentials.createInsecure());
  for (const file of files) {
    const request = ChatService.service.StreamChat.requestDeserialize(fs.readFileSync(file));
    console.log(JSON.stringify(await outcome(chats, request)));
  }
  chats.close();
}

async function outcome(chats, request) {
  let text = "";
  try {
    for await (const event of chats.StreamChat(request, { deadline: Date.now() + TIMEOUT_MS })) {
      text += event.text_delta?.text ?? "";
    }
  } catch (error) {
    const [details = Buffer.alloc(0)] = error.metadata.get("grpc-status-details-bin");
    return { code: error.code, details: details.toString("base64") };
  }
  return { code: 0, text };
}

main();
