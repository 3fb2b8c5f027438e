"""A chat endpoint on this machine: its answers are written down beforehand, and it remembers what it was asked."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(text, usage=True):
    """A completion with `text`."""
    tree = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, {}, json.dumps(tree | ({"usage": {"prompt_tokens": 10, "completion_tokens": 5}} if usage else {}))


def questions(*facts):
    """An answer in the form that is asked for, one question a fact."""
    items = [
        {"context": "It is told.", "sentence_true": f"It was {fact}.", "sentence_false": "It was none."}
        for fact in facts
    ]
    return answer(json.dumps({"questions": items}))


class Asked:
    """What came in: (path, headers, body) in order; `replies` is a list that is used up, its last one for ever."""

    def __init__(self, replies):
        self.replies, self.requests, self.url = list(replies), [], ""


@contextmanager
def serving(*replies):
    """Each reply is (status, headers, text), or "slow" for none in time, or "cut" for half of one."""
    asked = Asked(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.requests.append((self.path, dict(self.headers), json.loads(body)))
            reply = asked.replies.pop(0) if len(asked.replies) > 1 else asked.replies[0]
            if reply == "slow":
                time.sleep(1.5)
                return
            if reply == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices"')
                return
            status, headers, text = reply
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self):
            # What a client sends that follows a redirect of its POST.
            asked.requests.append((self.path, dict(self.headers), None))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    asked.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
