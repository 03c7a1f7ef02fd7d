"""Prints the curl commands of README.md that are marked to be tested, each ended by a NUL byte.

A block counts when the line before its ```bash fence is the comment <!-- tested -->. One command may span lines with a
backslash. http://localhost:8000 becomes the address in E2E_URL; everything else stays as a reader would paste it.
"""

import os
import pathlib
import re
import sys

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
blocks = re.findall(r"<!-- tested -->\s*```bash\n(.*?)```", text, re.S)
commands = []
for block in blocks:
    joined = block.replace("\\\n", " ")
    commands += [line.strip() for line in joined.splitlines() if line.strip().startswith("curl ")]
if not commands:
    sys.exit("README.md shows no tested curl command")
for command in commands:
    sys.stdout.write(command.replace("http://localhost:8000", os.environ["E2E_URL"]) + "\0")
