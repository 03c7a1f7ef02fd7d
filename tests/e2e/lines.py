"""Reads a stream of NDJSON on stdin as it arrives and says whether it came word by word.

    curl -N ... | python3 lines.py [--print]

Every line must be JSON, the last one `done`, and the first must have come before the last. With --print the text goes to stdout.
"""

import json
import sys
import time


def text_of(line):
    return line.get("message", {}).get("content") or line.get("response") or ""


def main():
    first = None
    texts, last = [], None
    for raw in sys.stdin.buffer:
        now = time.monotonic()
        last = json.loads(raw)
        if "error" in last:
            sys.exit(f"an error line: {last['error']}")
        if text_of(last):
            texts.append(text_of(last))
            first = first or now
    if last is None:
        sys.exit("nothing came")
    if last.get("done") is not True:
        sys.exit(f"the last line is not the end: {last}")
    if first is None:
        sys.exit("no text came")
    if len(texts) > 3 and now - first < 0.02:
        sys.exit(f"{len(texts)} pieces came all at once")
    if "--print" in sys.argv:
        print("".join(texts))


main()
