"""Runs the fenced examples of a document that follow the line <!-- tested -->, each as a reader would paste it.

    examples.py DOCUMENT      with OLLAMA_BASE_URL and OLLAMA_API_KEY as the document says

bash by bash, python by this interpreter, ts by node (its examples must be plain JavaScript as well). An example passes where
it ends with 0 and prints something that is not an error.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"<!-- tested -->\s*```(\w+)\n(.*?)```", re.S)


def command(language, folder, text):
    if language == "bash":
        return ["bash", "-euo", "pipefail", "-c", text]
    script = folder / {"python": "example.py", "ts": "example.mjs"}[language]
    script.write_text(text, encoding="utf-8")
    return [sys.executable if language == "python" else "node", str(script)]


def main():
    blocks = BLOCK.findall(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    if {language for language, _ in blocks} != {"bash", "python", "ts"}:
        sys.exit(f"{sys.argv[1]} shows {[language for language, _ in blocks]}; bash, python and ts are expected")
    with tempfile.TemporaryDirectory() as folder:
        for language, text in blocks:
            done = subprocess.run(
                command(language, pathlib.Path(folder), text), capture_output=True, text=True, timeout=120, check=False
            )
            if done.returncode != 0 or not done.stdout.strip() or '"error"' in done.stdout:
                sys.exit(f"the {language} example: exit code {done.returncode}\n{done.stdout}{done.stderr}")


main()
