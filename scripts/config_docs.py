#!/usr/bin/env python3
"""Writes portcullis.example.toml and the table in docs/CONFIG.md from the list of keys in src/config/keys.rs.

    scripts/config_docs.py            writes both
    scripts/config_docs.py --check    exit 1 where they differ
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/config/keys.rs"
EXAMPLE = ROOT / "portcullis.example.toml"
TABLE = ROOT / "docs/CONFIG.md"
BEGIN, END = "<!-- keys: written by scripts/config_docs.py -->", "<!-- end of keys -->"

HEAD = """\
## Every key of Portcullis at its default. Copy this file to portcullis.toml and take the "# " off what you change.
## Found in the working folder, then in the user's config folder (~/.config/portcullis/), or named with --config.
## Flags win over the environment, the environment wins over this file. An unknown key is a fault.
## `portcullis check` reads it and names every fault at once.
##
## Durations: "250ms", "90s", "5m", "24h". Sizes: "20MiB", "8MB". 0 means none, unless the line says otherwise.
"""


def keys():
    """Name, older names, kind, default and meaning of each key, in order."""
    text = SOURCE.read_text(encoding="utf-8").split("pub const KEYS", 1)[1].split("];\n", 1)[0]
    string = r'"((?:[^"\\]|\\.)*)"'
    pattern = rf"(?:older\(\s*&\[([^\]]*)\],\s*)?(fixed\(\s*)?key\(\s*{string},\s*(\w+),\s*{string},\s*{string}\s*,?\s*\)"
    found = [
        {
            "name": name,
            "older": re.findall(string, older or ""),
            "kind": kind,
            "default": default.replace('\\"', '"'),
            "about": about.replace('\\"', '"'),
            "fixed": bool(fixed),
        }
        for older, fixed, name, kind, default, about in re.findall(pattern, text)
    ]
    if len(found) != len(re.findall(r"\bkey\(", text)):
        sys.exit(f"{SOURCE.name}: {len(found)} keys understood of {len(re.findall(r'key[(]', text))}")
    return found


def as_toml(key):
    default = key["default"]
    # Empty would be public mode. As it stands it is a fault: whoever takes the comment off must write something.
    if key["name"] == "keys.api_key":
        return '"…"'
    if key["kind"] == "List":
        return "[" + ", ".join(f'"{item.strip()}"' for item in default.split(",") if item.strip()) + "]"
    if key["kind"] in ("Bool", "Number") or key["kind"] in ("Duration", "Size") and default.isdigit():
        return default
    return f'"{default}"'


def example(all_keys):
    lines, section = [HEAD], None
    for key in all_keys:
        room, name = key["name"].split(".", 1)
        if room != section:
            section = room
            lines.append(f"[{room}]")
        lines.append(f"## {key['about']}")
        lines.append(f"# {name} = {as_toml(key)}")
        lines.append("")
    # One empty line between sections, none between the keys of one.
    text = "\n".join(lines)
    return re.sub(r"\n\n## ", "\n## ", text[len(HEAD):]).join([HEAD, ""]).rstrip() + "\n"


def table(all_keys):
    rows = ["| key | environment | default | meaning |", "|---|---|---|---|"]
    for key in all_keys:
        env = "PORTCULLIS_" + key["name"].replace(".", "_").upper()
        names = "<br>".join(f"`{name}`" for name in [env, *key["older"]])
        default = f"`{key['default']}`" if key["default"] else "–"
        about = re.sub(r"<(\w+)>", r"`<\1>`", key["about"]).replace("|", "\\|")
        secret = " Also as a file: the same name with `_FILE`." if key["kind"] == "Secret" else ""
        mark = " ¹" if key["fixed"] else ""
        rows.append(f"| `{key['name']}`{mark} | {names} | {default} | {about}{'.' if secret else ''}{secret} |")
    return "\n".join(rows)


def main():
    all_keys = keys()
    old = TABLE.read_text(encoding="utf-8")
    before, rest = old.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    wanted = {EXAMPLE: example(all_keys), TABLE: f"{before}{BEGIN}\n{table(all_keys)}\n{END}{after}"}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        if stale:
            sys.exit("not up to date: " + ", ".join(path.name for path in stale) + " (run scripts/config_docs.py)")
        return
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")


main()
