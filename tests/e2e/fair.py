"""Does a key with one request get its turn while another key has a dozen waiting? The real gateway, the real engine.

    python3 fair.py PORTCULLIS PORTCULLIS-ENGINE

Starts both with one slot. The heavy key sends twelve requests at once; while most of them wait, the light key sends four, one
after another. The audit says how long each waited. A light one is next once the turn that runs is over: it may wait half as
long again as the longest turn of a heavy one. The first of the four comes while the heavy key is new to the queue itself, having
found the slot free before, and new keys are served in the order in which they came: it may wait for one turn more.

A machine that is busy with something else makes turns of very different lengths, so the heavy turns that ended while a light
request was there are counted as well.

Everything lies in a temporary folder. Ends only what it started; every wait is bounded.
"""

import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HEAVY, WAITING, TOKENS = 12, 8, 40
# For each light request: turns of the heavy key that may end before it has its own; half a turn more is for all else.
TURNS = (1, 1, 1, 1)
SLACK = 0.5
READY = int(os.environ.get("E2E_READY_SECONDS", "600"))  # the first start fetches the model
OWN_KEY = "e2e-fair-key-of-enough-length"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fail(words):
    raise SystemExit(f"fair: {words}")


def until(what, seconds, look, pause=0.05):
    """The first truth that `look` tells."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            fail(f"not within {seconds} s: {what}")
        time.sleep(pause)


def call(url, key=None, body=None, seconds=300):
    """Status and text of one request; status 0 where nobody answers."""
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with DIRECT.open(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


class Started:
    """A process of ours, its lines in a file, ended with SIGTERM and a bounded wait."""

    def __init__(self, name, command, env, folder):
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def says(self, pattern, seconds):
        """What stands at the pattern's group in its lines."""

        def look():
            found = re.search(pattern, self.log.read_text(errors="replace"), re.MULTILINE)
            if not found and self.process.poll() is not None:
                fail(f"{self.name} ended with {self.process.returncode}\n{self.tail()}")
            return found

        return until(f"{self.name} says {pattern}", seconds, look)[1]

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"{self.name} did not stop within 30 s"
        return None


class Gateway:
    def __init__(self, binary, env, config, base, ops, model):
        self.binary, self.env, self.config = binary, env, config
        self.base, self.ops, self.model = base, ops, model

    def command(self, *words):
        words = [self.binary, *words, "--config", str(self.config)]
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            fail(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def make_key(self, name):
        made = json.loads(self.command("key", "create", "--name", name, "--json"))
        # Few looks: a key that is not known yet counts as a wrong one.
        until(f"the key {name} is known", 10, lambda: call(f"{self.base}/usage", made["key"], seconds=5)[0] == 200, 0.6)
        return made["id"], made["key"]

    def ask(self, key, n):
        prompt = f"Write a long story about voyage number {n}."
        options = {"num_predict": TOKENS, "seed": n, "repeat_penalty": 1.2}
        body = {"model": self.model, "prompt": prompt, "stream": False, "options": options}
        status, text = call(f"{self.base}/api/generate", key, body)
        if status != 200:
            fail(f"a request got {status}: {text[:200]}")
        return json.loads(text)["eval_count"]

    def waiting(self):
        status, page = call(f"{self.ops}/metrics", seconds=5)
        if status != 200:
            fail(f"/metrics: {status}")
        return int(re.search(r"^portcullis_queue_waiting (\d+)$", page, re.MULTILINE)[1])

    def rows(self, keys, count):
        """The audit's rows of these keys, once there are so many."""

        def look():
            rows = [json.loads(line) for line in self.command("audit", "export").splitlines()]
            rows = [row for row in rows if row["key_id"] in keys and row["route"] == "/api/generate"]
            for row in rows:
                row["epoch"] = datetime.datetime.fromisoformat(row["time"].replace("Z", "+00:00")).timestamp() * 1000
            return len(rows) >= count and rows

        return until(f"{count} rows of the audit", 15, look, 0.3)


def send(gateway, heavy, light):
    """Twelve at once; then the light ones, one after another, while others wait. How many waited when each came; the tokens."""
    lines = []
    begin = threading.Barrier(HEAVY)

    def one(n):
        begin.wait(timeout=30)
        return gateway.ask(heavy, n)

    with concurrent.futures.ThreadPoolExecutor(HEAVY) as pool:
        running = [pool.submit(one, n) for n in range(HEAVY)]
        until(f"{WAITING} requests of the heavy key wait", 30, lambda: gateway.waiting() >= WAITING, 0.01)
        for n in range(len(TURNS)):
            lines.append(gateway.waiting())
            if lines[-1] == 0:
                fail(f"nobody waited when the light request {n + 1} came: the figures would say nothing")
            gateway.ask(light, 100 + n)
        tokens = [work.result(timeout=300) for work in running]
    return lines, tokens


def judge(rows, heavy, light, lines):
    for row in rows:
        if row["status"] != 200 or row["ending"] != "done" or row["queue_ms"] is None:
            fail(f"not served: {row}")
    own = sorted((row for row in rows if row["key_id"] == light), key=lambda row: row["epoch"])
    others = [row for row in rows if row["key_id"] == heavy]
    if (len(others), len(own)) != (HEAVY, len(TURNS)):
        fail(f"{len(others)} rows of the heavy key and {len(own)} of the light one")
    turns = sorted(row["total_ms"] - row["queue_ms"] for row in others)
    longest, waits = turns[-1], [row["queue_ms"] for row in others]
    print(f"fair: a turn of the heavy key took {turns[0]} to {longest} ms; its requests waited up to {max(waits)} ms")
    late = []
    for row, line, most in zip(own, lines, TURNS):
        # With one slot no heavy turn ends while the light one has its own.
        came, end = row["epoch"], row["epoch"] + row["total_ms"]
        before = sum(came < other["epoch"] + other["total_ms"] < end for other in others)
        waited = row["queue_ms"] / longest
        words = f"{row['queue_ms']} ms, {waited:.2f} of the longest turn, {before} turns of at most {most}"
        print(f"fair: a light request came when {line} waited: {words}")
        if before > most or waited > most + SLACK:
            late.append(words)
    if late:
        fail(f"light requests waited too long: {'; '.join(late)}")


def run(binary, engine_binary, folder, started):
    env = {name: value for name, value in os.environ.items() if not re.match(r"PORTCULLIS_|OLLAMA_|PORT$", name)}
    engine = Started("engine", [engine_binary, "serve", "--port", "0"], env, folder)
    started.append(engine)
    upstream = engine.says(r"listening on (http://\S+)", READY)
    tags = until("the engine's model", READY, lambda: json.loads(call(f"{upstream}/api/tags", seconds=5)[1] or "{}").get("models"))
    model = tags[0]["name"]

    env |= {"OLLAMA_API_KEY": OWN_KEY, "PORTCULLIS_DATA_DIR": str(folder / "data")}
    config = folder / "portcullis.toml"
    config.write_text(f'[upstream]\nurl = "{upstream}"\n')
    settings = ["upstream.slots=1", "queue.wait=280s", "limits.requests_per_minute=0"]
    settings += ["ops.port=0", "log.format=text"]
    command = [binary, "serve", "--config", str(config), "--port", "0"]
    serving = Started("gateway", command + [word for setting in settings for word in ("--set", setting)], env, folder)
    started.append(serving)
    base, ops = serving.says(r"^  API +(http://\S+)", 30), serving.says(r"^  ops +(http://\S+)/metrics", 30)
    gateway = Gateway(binary, env, config, base, ops, model)

    # The first request loads the model: that is nobody's turn here.
    gateway.ask(OWN_KEY, 0)
    (heavy, heavy_key), (light, light_key) = gateway.make_key("heavy"), gateway.make_key("light")
    lines, tokens = send(gateway, heavy_key, light_key)
    rows = gateway.rows({heavy, light}, HEAVY + len(TURNS))
    print(f"fair: {HEAVY} heavy requests of {min(tokens)} to {max(tokens)} tokens, {len(TURNS)} light ones, one slot, {model}")
    judge(rows, heavy, light, lines)


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = []
    with tempfile.TemporaryDirectory(prefix="fair.") as folder:
        code = 1
        try:
            run(*(str(pathlib.Path(binary).resolve()) for binary in sys.argv[1:]), pathlib.Path(folder), started)
            code = 0
        finally:
            late = [words for words in (one.end() for one in reversed(started)) if words]
            if code or late:
                for one in started:
                    print(f"fair: the end of the {one.name}'s log:\n{one.tail()}", file=sys.stderr)
        if late:
            fail("; ".join(late))


main()
