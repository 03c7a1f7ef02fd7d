#!/usr/bin/env python3
"""Stands for the program `ollama` in tests of what starts it: `serve`, `list`, `pull`, and just enough of its API.

In its own folder it writes `starts` (its environment, a line a start), `pid` and `pulled`; the model is there once it was
pulled. While `hold` lies there it does not listen. It dies when it is asked for an embedding, and leaves a process behind
(`runner`). While `mute` lies there a pull hears nothing, or, where it holds a line, that line alone.
"""

import http.server
import json
import os
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ("OLLAMA", "PORTCULLIS", "PORT")


def path(name):
    return os.path.join(HERE, name)


class Ollama(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def say(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, *lines):
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        for line in lines:
            self.wfile.write(json.dumps(line).encode() + b"\n")

    def do_GET(self):
        if self.path == "/api/tags":
            pulled = os.path.exists(path("pulled"))
            self.say({"models": [{"name": open(path("pulled")).read()}] if pulled else []})
        else:
            self.say({"version": "0.0.1"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/pull" and os.path.exists(path("mute")):
            said = open(path("mute")).read()
            if said:
                self.stream(json.loads(said))
                self.wfile.flush()
            time.sleep(600)
        elif self.path == "/api/pull":
            with open(path("pulled"), "w") as file:
                file.write(body["model"])
            self.stream({"status": "pulling", "total": 10, "completed": 5}, {"status": "success"})
        elif self.path == "/api/embed":
            # As a real one does, it leaves the process that runs the model behind.
            with open(path("runner"), "w") as file:
                file.write(str(subprocess.Popen(["sleep", "600"]).pid))
            os._exit(3)
        else:
            self.say({"model": body["model"], "message": {"role": "assistant", "content": "hi"}, "done": True})


def main(command, *rest):
    host, port = os.environ["OLLAMA_HOST"].rsplit(":", 1)
    if command == "serve":
        with open(path("starts"), "a") as file:
            file.write(json.dumps({k: v for k, v in os.environ.items() if k.startswith(NAMES)}) + "\n")
        with open(path("pid"), "w") as file:
            file.write(str(os.getpid()))
        while os.path.exists(path("hold")):
            time.sleep(0.05)
        http.server.ThreadingHTTPServer((host, int(port)), Ollama).serve_forever()
    no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    if command == "list":
        no_proxy.open(f"http://{host}:{port}/api/tags", timeout=5).read()
    elif command == "pull":
        body = json.dumps({"model": rest[0]}).encode()
        no_proxy.open(f"http://{host}:{port}/api/pull", data=body, timeout=5).read()
    else:
        sys.exit(f"the fake does not know: {command}")


main(*sys.argv[1:])
