#!/usr/bin/env python3
"""Stands for Anthropic: streams "Hello, newcomer." to whoever asks with KEY, and refuses everybody else.

    provider.py KEY        # prints the URL that it serves
"""

import http.server
import json
import sys

KEY = sys.argv[1]


def events():
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "model": "claude-sonnet-4-5", "usage": usage}
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for text in ("Hello, ", "newcomer."):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
    yield {"type": "message_stop"}


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        known = self.headers["x-api-key"] == KEY
        self.send_response(200 if known else 401)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in events() if known else ():
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
server.serve_forever()
