"""Streams chats with grpcio as it is: client.py ADDRESS FILE...

Each file is a serialized StreamChatRequest. Prints a line of JSON for each: the code, the
details of the status in base64, and the text of the answer.
"""

import base64
import json
import pathlib
import sys

import grpc

from archestra.chat.v1 import chat_pb2, chat_pb2_grpc

TIMEOUT_S = 120


def main(address, *files):
    with grpc.insecure_channel(address) as channel:
        chats = chat_pb2_grpc.ChatServiceStub(channel)
        for file in files:
            request = chat_pb2.StreamChatRequest.FromString(pathlib.Path(file).read_bytes())
            print(json.dumps(outcome(chats, request)), flush=True)


def outcome(chats, request):
    try:
        events = list(chats.StreamChat(request, timeout=TIMEOUT_S))
    except grpc.RpcError as error:
        trailers = {entry.key: entry.value for entry in error.trailing_metadata() or ()}
        details = trailers.get("grpc-status-details-bin", b"")
        return {"code": error.code().value[0], "details": base64.b64encode(details).decode()}
    return {"code": 0, "text": "".join(event.text_delta.text for event in events)}


main(*sys.argv[1:])
