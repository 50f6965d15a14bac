"""Stores a provider's key in the key-vault and streams one answer from the chat-gateway.

    python3 chat.py MODEL PROMPT

PROVIDER_KEY or the file that PROVIDER_KEY_FILE names is stored as the organization's
default key of the model's provider. Without either, the keys that the vault has are used.

The services are at KEY_VAULT_SERVER and CHAT_GATEWAY_SERVER, else where `make run` has
them. The modules of the contract are generated into `gen`; README.md has the command.
"""

import os
import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

sys.path.insert(0, str(pathlib.Path(__file__).parent / "gen"))

from archestra.chat.v1 import chat_pb2, chat_pb2_grpc
from archestra.keyvault.v1 import key_vault_pb2, key_vault_pb2_grpc
from archestra.types.v1 import types_pb2

ORGANIZATION = "default"


def main(model, prompt):
    with channel("KEY_VAULT_SERVER", "127.0.0.1:50051") as vault, channel(
        "CHAT_GATEWAY_SERVER", "127.0.0.1:50052"
    ) as gateway:
        keys = key_vault_pb2_grpc.ApiKeyServiceStub(vault)
        chats = chat_pb2_grpc.ChatServiceStub(gateway)

        if key := provider_key():
            store_default_key(keys, chats, model, key)
        stream(chats, model, prompt)

        print("\nA model that no provider has is refused:")
        try:
            stream(chats, "no-such-model", prompt)
        except grpc.RpcError as error:
            explain(error)


def store_default_key(keys, chats, model, key):
    """Seals the key in the vault, as the organization's default of the model's provider."""
    detected = chats.DetectProvider(chat_pb2.DetectProviderRequest(model=model), timeout=5)
    request = key_vault_pb2.CreateApiKeyRequest(
        organization_id=ORGANIZATION,
        provider=detected.provider,
        display_name="Python example",
        material=key_vault_pb2.KeyMaterial(api_key=key),
        set_as_organization_default=True,
    )
    stored = keys.CreateApiKey(request, timeout=5).api_key
    print(f"Stored key {stored.api_key_id} of {types_pb2.Provider.Name(stored.provider)}, ending in {stored.hint!r}.")


def stream(chats, model, prompt):
    """Prints the text of an answer as it arrives. Raises grpc.RpcError if it is not whole."""
    text = chat_pb2.ContentPart(text=chat_pb2.TextPart(text=prompt))
    request = chat_pb2.StreamChatRequest(
        organization_id=ORGANIZATION,
        model=model,
        messages=[chat_pb2.Message(role=chat_pb2.Message.ROLE_USER, parts=[text])],
    )
    for response in chats.StreamChat(request, timeout=300):
        match response.WhichOneof("event"):
            case "text_delta":
                print(response.text_delta.text, end="", flush=True)
            case "finished":
                finished = response.finished
                reason = chat_pb2.FinishReason.Name(finished.finish_reason)
                print(f"\n[{reason}, {finished.usage.total_tokens} tokens]")
            case _:
                pass  # Other events, and those of later versions.


def explain(error):
    """Prints what a program would decide by: the code, and the reason with its metadata."""
    print(f"{error.code().name}: {error.details()}")
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            print(f"reason {info.reason} of {info.domain}, metadata {dict(info.metadata)}")


def provider_key():
    """The key from the environment. Never from the command line, which others can read."""
    if path := os.environ.get("PROVIDER_KEY_FILE"):
        return pathlib.Path(path).expanduser().read_text().strip()
    return os.environ.get("PROVIDER_KEY", "")


def channel(variable, default):
    address = os.environ.get(variable, default)
    return grpc.insecure_channel(address.removeprefix("http://"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as failed:
        explain(failed)
        sys.exit(1)
