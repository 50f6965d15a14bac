"""Streams chats over TLS: python3 client.py MODEL [SECONDS]

Reads a prompt a line. Ctrl-C ends an answer, and not the program. docs/clients/python.md explains it.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import random
import sys
import time

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

sys.path.insert(0, str(pathlib.Path(__file__).parent / "gen"))

from archestra.chat.v1 import chat_pb2, chat_pb2_grpc


def connect():
    """A channel to the gateway. It connects with the first call."""
    authorities = file("CHAT_GATEWAY_CA")
    if os.environ.get("CHAT_GATEWAY_CLIENT_CERTIFICATE"):
        key, certificate = file("CHAT_GATEWAY_CLIENT_KEY"), file("CHAT_GATEWAY_CLIENT_CERTIFICATE")
        credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
    else:
        token = grpc.metadata_call_credentials(Token(os.environ["CHAT_GATEWAY_TOKEN_FILE"]))
        credentials = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(authorities), token)
    server = os.environ["CHAT_GATEWAY_SERVER"].removeprefix("https://")
    return grpc.secure_channel(server, credentials, CHANNEL)


class Token(grpc.AuthMetadataPlugin):
    """Sends the token that the file has now."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __call__(self, context, callback):
        try:
            callback([("authorization", f"Bearer {self.path.read_text().strip()}")], None)
        except OSError as error:
            callback([], error)


def file(variable):
    return pathlib.Path(os.environ[variable]).read_bytes()


CHANNEL = [
    # A gateway that vanished is noticed after 40 s, also while a model thinks and nothing is sent.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What `Chat` returns at once may have 16 MiB; unless told, clients read 4 MiB.
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    # Several gateways behind one name take turns.
    ("grpc.lb_policy_name", "round_robin"),
]


@dataclasses.dataclass
class Failure:
    """What a failed call says."""

    code: grpc.StatusCode
    text: str
    reason: str = ""
    metadata: dict = dataclasses.field(default_factory=dict)
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error):
        failure = cls(error.code(), error.details())
        status = rpc_status.from_call(error)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details if status else []:
            if detail.Unpack(info):
                failure.reason, failure.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                failure.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        return failure


ATTEMPTS_MAX = 4
FIRST_WAIT_S, WAIT_S_MAX = 0.5, 20.0


def stream(chats, request, seconds):
    """Yields the events of an answer. Closing it ends the call, and the provider's work with it.

    Raises grpc.RpcError if the answer is not whole.
    """
    deadline = time.monotonic() + seconds
    for attempt in itertools.count(1):
        begun = False
        call = chats.StreamChat(request, timeout=max(deadline - time.monotonic(), 0.001))
        try:
            for response in call:
                begun = True
                yield response
            return
        except grpc.RpcError as error:
            wait = wait_before_repeat(Failure.of(error), attempt)
            if begun or wait is None or time.monotonic() + wait >= deadline:
                raise
        finally:
            call.cancel()
        time.sleep(wait)


def wait_before_repeat(failure, attempt):
    """How many seconds to wait before the call is made again. None if it is not."""
    passes = (
        failure.code == grpc.StatusCode.UNAVAILABLE
        or failure.retry_after_s is not None
        or failure.reason == "PROVIDER_RATE_LIMITED"
    )
    if failure.code == grpc.StatusCode.ABORTED or not passes or attempt == ATTEMPTS_MAX:
        return None
    # At random, so that clients which failed together do not come back together.
    wait = min(FIRST_WAIT_S * 2 ** (attempt - 1), WAIT_S_MAX) * random.uniform(0.5, 1)
    return max(wait, failure.retry_after_s or 0)


def answer(chats, model, prompt, seconds):
    """Prints an answer as it arrives."""
    text = chat_pb2.ContentPart(text=chat_pb2.TextPart(text=prompt))
    request = chat_pb2.StreamChatRequest(
        organization_id=os.environ.get("CHAT_GATEWAY_ORGANIZATION", "default"),
        profile_id=os.environ.get("CHAT_GATEWAY_PROFILE"),
        model=model,
        messages=[chat_pb2.Message(role=chat_pb2.Message.ROLE_USER, parts=[text])],
    )
    with contextlib.closing(stream(chats, request, seconds)) as events:
        for response in events:
            match response.WhichOneof("event"):
                case "text_delta":
                    print(response.text_delta.text, end="", flush=True)
                case "finished":
                    finished = response.finished
                    reason = chat_pb2.FinishReason.Name(finished.finish_reason)
                    print(f"\n[{reason}, {finished.usage.total_tokens} tokens]", flush=True)


def explain(error):
    """Says what failed. Of an answer that broke off, also what it has used."""
    failure = Failure.of(error)
    print(f"\n{failure.code.name} {failure.reason}: {failure.text}", failure.metadata, flush=True)
    for name, value in error.trailing_metadata() or ():
        if name == "archestra-usage-bin":
            usage = chat_pb2.Usage.FromString(value)
            print(f"[broken off after {usage.total_tokens} tokens]", flush=True)


def main(model, seconds="300"):
    failed = False
    with connect() as channel:
        chats = chat_pb2_grpc.ChatServiceStub(channel)
        for prompt in map(str.strip, sys.stdin):
            try:
                answer(chats, model, prompt, float(seconds))
            except grpc.RpcError as error:
                explain(error)
                failed = True
            except KeyboardInterrupt:
                print("\n[cancelled]", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
