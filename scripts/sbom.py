#!/usr/bin/env python3
"""Writes the gateway's bill of materials: CycloneDX 1.5, JSON.

    scripts/sbom.py TRIPLE > portcullis.cdx.json
    scripts/sbom.py TRIPLE --notices       the licence texts of all of it, which go with a binary
    scripts/sbom.py TRIPLE --check FILE    does FILE list every crate that `cargo tree` names? exit 1 if not

What is in the binary and in the page, no more: the crates of `cargo tree -e normal` for this target, with the licences that
`cargo metadata` knows and the hashes of Cargo.lock; the page's vendored scripts, from web/package-lock.json; and what a static
binary brings along, Rust's standard library and glibc. Time and serial number come from SOURCE_DATE_EPOCH and the contents, so
the same sources give the same file.
"""

import base64
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
GATEWAY = "portcullis"


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def tree(triple):
    """The crates of the gateway as (name, version), and what each of them needs."""
    lines = run("cargo", "tree", "--locked", "-e", "normal", "-p", GATEWAY, "--target", triple, "--prefix", "depth")
    needs, above = {}, []
    for line in lines.splitlines():
        depth, name, version = re.match(r"(\d+)(\S+) v(\S+)", line).groups()
        crate, depth = (name, version), int(depth)
        needs.setdefault(crate, set())
        above[depth:] = [crate]
        if depth:
            needs[above[depth - 1]].add(crate)
    return needs


def licence(expression):
    """An SPDX expression; the slash is how crates wrote OR before there were expressions."""
    return [{"expression": re.sub(r"\s*/\s*", " OR ", expression)}] if expression else []


def metadata(triple):
    """What cargo knows of each package, by name and version."""
    text = run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", triple)
    return {(package["name"], package["version"]): package for package in json.loads(text)["packages"]}


def crates(needs, triple):
    known = metadata(triple)
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))["package"]
    sums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    for crate in sorted(needs):
        package = known[crate]
        component = {
            "type": "application" if crate[0] == GATEWAY else "library",
            "bom-ref": reference(crate),
            "name": crate[0],
            "version": crate[1],
            "licenses": licence(package["license"]),
            "purl": reference(crate),
        }
        if package["description"]:
            component["description"] = " ".join(package["description"].split())
        if sums[crate]:
            component["hashes"] = [{"alg": "SHA-256", "content": sums[crate]}]
        yield component


def reference(crate):
    return f"pkg:cargo/{crate[0]}@{crate[1]}"


def scripts():
    """The page's scripts by others: what package.json names as dependencies, all of it vendored, nothing beneath."""
    lock = json.loads((ROOT / "web/package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in sorted(lock[""]["dependencies"]):
        package = lock[f"node_modules/{name}"]
        algorithm, digest = package["integrity"].split("-", 1)
        purl = f"pkg:npm/{name.replace('@', '%40', 1)}@{package['version']}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package["version"],
            "description": "a script of the chat page, embedded in the binary; the hash is the npm package's",
            "hashes": [{"alg": algorithm.replace("sha", "SHA-"), "content": base64.b64decode(digest).hex()}],
            "licenses": licence(package["license"]),
            "purl": purl,
        }


def linked():
    """What is linked into every binary of this kind."""
    rust = run("rustc", "--version").split()[1]
    glibc = re.search(r"(\d+\.\d+)$", run("ldd", "--version").splitlines()[0]).group(1)
    for name, version, terms in (("rust-std", rust, "MIT OR Apache-2.0"), ("glibc", glibc, "LGPL-2.1-or-later")):
        purl = f"pkg:generic/{name}@{version}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "licenses": licence(terms),
            "purl": purl,
        }


def bill(triple):
    needs = tree(triple)
    everything = list(crates(needs, triple))
    (gateway,) = (component for component in everything if component["name"] == GATEWAY)
    others = list(scripts()) + list(linked())
    components = [component for component in everything if component is not gateway] + others
    depends = [{"ref": reference(crate), "dependsOn": sorted(map(reference, below))} for crate, below in sorted(needs.items())]
    for entry in depends:
        if entry["ref"] == gateway["bom-ref"]:
            entry["dependsOn"] = sorted(entry["dependsOn"] + [other["bom-ref"] for other in others])
    depends += [{"ref": other["bom-ref"], "dependsOn": []} for other in others]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    stamp = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([gateway["purl"], triple, stamp, components], sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": stamp,
            "tools": {"components": [{"type": "application", "name": "scripts/sbom.py", "version": gateway["version"]}]},
            "component": gateway,
            "properties": [{"name": "cargo:target", "value": triple}],
        },
        "components": components,
        "dependencies": depends,
    }


def notices(triple):
    """The licence files of what is listed, each text once, under the names of whom it covers."""
    packages = metadata(triple)
    covers = {}
    for name, version in sorted(tree(triple)):
        if name != GATEWAY:
            folder = pathlib.Path(packages[name, version]["manifest_path"]).parent
            files = sorted(f for f in folder.iterdir() if re.match(r"(?i)(licen[cs]e|copying|copyright|notice)", f.name) and f.is_file())
            for text in [f.read_text(encoding="utf-8", errors="replace").strip() for f in files] or ["(no text in its package)"]:
                covers.setdefault(text, []).append(f"{name} {version} ({packages[name, version]['license']})")
    for file in sorted((ROOT / "web/vendor").glob("*/LICENSE")):
        covers.setdefault(file.read_text(encoding="utf-8").strip(), []).append(f"{file.parent.name}, a script of the chat page")
    print("Others' work in this binary, and its terms. The binary is linked statically with glibc (LGPL-2.1-or-later, gnu.org/software/libc)")
    print("and Rust's standard library (MIT OR Apache-2.0); with the sources, scripts/static.sh links it anew with yours.")
    for text, names in covers.items():
        print("\n" + "=" * 100, *names, "-" * 100, text, sep="\n")


def check(triple, file):
    """Compares with a listing of its own, flat and without repetition, and looks for what a component must say."""
    text = run("cargo", "tree", "--locked", "-e", "normal", "-p", GATEWAY, "--target", triple, "--prefix", "none", "--no-dedupe")
    expected = {"{}@{}".format(*re.match(r"(\S+) v(\S+)", line).groups()) for line in text.splitlines()}
    document = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
    listed = [document["metadata"]["component"], *document["components"]]
    found = {f"{component['name']}@{component['version']}" for component in listed if component["purl"].startswith("pkg:cargo/")}
    if expected != found:
        sys.exit(f"sbom.py: missing: {sorted(expected - found)}; not in the tree: {sorted(found - expected)}")
    bare = [c["name"] for c in listed if not c["licenses"] or (c["purl"].startswith("pkg:cargo/") and c["name"] != GATEWAY and "hashes" not in c)]
    if bare:
        sys.exit(f"sbom.py: without a licence or a hash: {bare}")
    references = [component["bom-ref"] for component in listed]
    named = [entry["ref"] for entry in document["dependencies"]]
    if len(set(references)) != len(references) or sorted(references) != sorted(named):
        sys.exit("sbom.py: the dependencies name other components than those that are listed")
    print(f"{len(listed)} components, {len(expected)} of them crates", file=sys.stderr)


if len(sys.argv) == 4 and sys.argv[2] == "--check":
    check(sys.argv[1], sys.argv[3])
elif sys.argv[2:] == ["--notices"]:
    notices(sys.argv[1])
elif len(sys.argv) == 2:
    json.dump(bill(sys.argv[1]), sys.stdout, indent=1, ensure_ascii=False)
    print()
else:
    sys.exit(__doc__)
