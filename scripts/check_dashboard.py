#!/usr/bin/env python3
"""Does the Grafana dashboard ask for the metrics that the gateway has, and show all of them?

    python3 scripts/check_dashboard.py

Reads deploy/grafana/portcullis.json and the names in src/record/metrics.rs. A panel over a metric that was renamed stays empty
and tells nobody. Fails on a name that the gateway does not print, on a histogram without its suffix, on a metric that no panel
shows, and on a panel without a unit.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy/grafana/portcullis.json"
METRICS = ROOT / "src/record/metrics.rs"
NAME = re.compile(r"\bportcullis_\w+")
PARTS = ("_bucket", "_sum", "_count")


def printed():
    """The names that the gateway prints, and which of them are histograms. Its tests quote lines as well: they do not count."""
    source = METRICS.read_text().split("#[cfg(test)]")[0]
    names = set(re.findall(r'"(portcullis_\w+)', source))
    histograms = set(re.findall(r'\.show\(\s*out,\s*"(portcullis_\w+)"', source))
    if not names or not histograms:
        sys.exit(f"check_dashboard: no metrics were found in {METRICS.relative_to(ROOT)}: has its form changed?")
    return names, histograms


def panels(of):
    """All panels, those inside of closed rows too."""
    for panel in of.get("panels", []):
        yield panel
        yield from panels(panel)


def faults(board, names, histograms):
    good = (names - histograms) | {name + part for name in histograms for part in PARTS}
    shown, ids = set(), set()
    for panel in panels(board):
        title = panel.get("title", "?")
        if panel["id"] in ids:
            yield f"{title}: its id {panel['id']} is another panel's too"
        ids.add(panel["id"])
        if panel["type"] == "row":
            continue
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{title}: no unit"
        if not panel.get("targets"):
            yield f"{title}: no query"
        for target in panel.get("targets", []):
            found = set(NAME.findall(target["expr"]))
            if not found:
                yield f"{title}: no metric of the gateway in {target['expr']}"
            shown |= found
    asked = set(NAME.findall(json.dumps(board["templating"])))
    for name in sorted((shown | asked) - good):
        why = "it is a histogram: ask for its _bucket, _sum or _count" if name in histograms else "the gateway prints no such metric"
        yield f"{name}: {why}"
    for name in sorted(names):
        if not shown & {name, *(name + part for part in PARTS)}:
            yield f"{name}: shown nowhere"


def main():
    names, histograms = printed()
    found = list(faults(json.loads(DASHBOARD.read_text()), names, histograms))
    if found:
        sys.exit("\n".join(["check_dashboard: the dashboard and the gateway disagree:", *found]))
    print(f"check_dashboard: {len(names)} metrics, all shown", file=sys.stderr)


if __name__ == "__main__":
    main()
