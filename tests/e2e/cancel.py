"""Ctrl-C in curl, and what the engine says about it.

    python3 cancel.py stream|whole

Starts curl on a long answer, sends it SIGINT in the middle as a terminal does, and asks the engine's own counters how long it
went on. A second is allowed, measured from outside; the engine's own clock is printed beside it.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

URL, KEY, ENGINE = os.environ["E2E_URL"], os.environ["E2E_KEY"], os.environ["E2E_ENGINE"]
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def stats():
    with DIRECT.open(f"{ENGINE}/engine/stats", timeout=5) as answer:
        return json.load(answer)


def until(what, truth, seconds):
    end = time.monotonic() + seconds
    while True:
        now = stats()
        if truth(now):
            return now
        if time.monotonic() > end:
            sys.exit(f"cancel: not within {seconds} s: {what}; the engine says {now}")
        time.sleep(0.01)


def curl(stream):
    body = {
        "prompt": "Write a very long story about a voyage around the world.",
        "stream": stream,
        "options": {"num_predict": 300, "repeat_penalty": 1.2, "seed": 3},
    }
    command = ["curl", "-sSN", "-m", "120", f"{URL}/api/generate", "-H", f"Authorization: Bearer {KEY}"]
    command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    # A shell that runs this in the background hands SIGINT on as ignored; Ctrl-C is what is asked about here.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=listen)


def main():
    stream = sys.argv[1] == "stream"
    idle = until("idle", lambda s: s["generating"] == 0, 60)
    before, tokens = idle["cancelled"], idle["tokens_generated"]
    with curl(stream) as client:
        try:
            if stream:
                lines = [client.stdout.readline() for _ in range(3)]
                if not all(json.loads(line).get("done") is False for line in lines):
                    sys.exit(f"cancel: no running stream: {lines}")
            else:
                # Nothing reaches curl before the end, so the engine says when the answer is on its way.
                until("the answer has begun", lambda s: s["tokens_generated"] > tokens, 60)
            if client.poll() is not None:
                sys.exit("cancel: curl ended by itself")
            left = time.monotonic()
            client.send_signal(signal.SIGINT)
            client.wait(timeout=5)
        finally:
            client.kill()
    now = until("the work stopped", lambda s: s["cancelled"] > before and s["generating"] == 0, 1)
    took = (time.monotonic() - left) * 1000
    own = now["last_cancel"]
    print(
        f"cancel ({sys.argv[1]}): the engine stopped {took:.0f} ms after Ctrl-C in curl,"
        f" {own['after_ms']:.0f} ms after it noticed, with {own['tokens']} tokens done",
        file=sys.stderr,
    )


main()
