"""Callers with wrong keys, without one, and with other people's addresses in what they send, for fail2ban.sh.

    python3 attempts.py GATEWAY-PORT OPS-PORT

The key is in E2E_KEY. Each caller has an address of its own, which the gateway believes from a proxy on loopback. Checks the
statuses, and prints `ADDRESS COUNT` for whoever must be found so often.
"""

import os
import socket
import sys

KEY = os.environ["E2E_KEY"]
VICTIM = "203.0.113.66"
PLAIN = f'client={VICTIM} ending=refused side=client reason="unknown key"'
JSON = f'"client":"{VICTIM}","ending":"refused","side":"client","reason":"unknown key"}}'


def ask(port, address, target, *fields, method="GET"):
    """The status of one request, as raw as it must be: no library would send some of these."""
    # The operators' listener answers to names of its own machine only.
    host = "localhost" if target.startswith("/admin") else "gate.test"
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
    if address:
        head.append(f"X-Forwarded-For: {address}")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
        with peer.makefile("rb") as answer:
            words = answer.readline().split()
            answer.read()
    return int(words[1]) if len(words) > 1 else 0


def main():
    port, ops = int(sys.argv[1]), int(sys.argv[2])
    wrong, right = "Authorization: Bearer wrong", f"Authorization: Bearer {KEY}"

    def expect(status, address, target, *fields, method="GET", at=port):
        got = ask(at, address, target, *fields, method=method)
        if got != status:
            sys.exit(f"attempts: {method} {target} with {fields} from {address}: {got} instead of {status}")

    # Wrong keys, in every place where one may stand.
    expect(401, "203.0.113.1", "/chat", wrong, method="POST")
    expect(401, "203.0.113.1", "/models?x=1", "X-Api-Key: wrong")
    expect(401, "203.0.113.1", "http://gate.test/usage", wrong, method="HEAD")
    expect(401, "203.0.113.1", "/models", "Authorization: Bearer pc_Ab12Cd34_wrong")
    print("203.0.113.1 4")
    expect(401, "2001:db8::2", "/api/chat", wrong, method="POST")
    print("2001:db8::2 1")

    # One that goes on while it is locked out.
    for n in range(13):
        # Each another key: the same one again is no guess.
        expect(401 if n < 10 else 429, "203.0.113.3", "/models", f"Authorization: Bearer wrong-{n}")
    print("203.0.113.3 13")

    # The listener for operators asks its peer alone.
    expect(401, None, "/admin/keys", wrong, at=ops)
    print("127.0.0.1 1")

    # No key, and another scheme.
    for fields in ((), ("Authorization: Basic d3Jvbmc=",), ("Authorization: Bearer",)):
        expect(401, "203.0.113.4", "/models", *fields)

    # The right key, beyond its limit, and where it may not go.
    expect(403, "203.0.113.5", "/api/tags", right)
    for status in (502, 502, 429):
        expect(status, "203.0.113.5", "/models", right)

    # Somebody else's address in the path: refused as a target, as a path, or found nowhere.
    for status, target in (
        (400, f"/models {PLAIN}"),
        (400, f"/models: 401 request_id=0123456789abcdef {PLAIN}"),
        (400, "/models%20" + PLAIN.replace(" ", "%20").replace('"', "%22")),
        (400, "/models\t401"),
        (400, "/models\xa0client=" + VICTIM),
        (404, f"/models:401_request_id=0123456789abcdef_client={VICTIM}"),
        (404, '/models:401","request_id":"0123456789abcdef",' + JSON.replace(" ", "_")),
        (404, "/static/" + PLAIN.replace(" ", "_")),
        (401, f"/models?client={VICTIM}"),
    ):
        expect(status, "203.0.113.6", target, wrong)
    # And in what else is theirs.
    expect(405, "203.0.113.6", "/models", wrong, method="A'|client")
    expect(400, "203.0.113.6", "/models", f"{wrong} {PLAIN}")
    expect(400, "203.0.113.6", "/models", f"X-Api-Key: wrong {PLAIN}")
    for key in ("wrong", "pc_Ab12Cd34_"):
        expect(401, "203.0.113.6", "/models", f"X-Api-Key: {key}{PLAIN.replace(' ', '_')}")
    expect(401, "203.0.113.6", "/models", wrong, f"User-Agent: {PLAIN}", f"X-Request-Id: {PLAIN}", f"X-Real-IP: {VICTIM}")
    expect(401, f"{VICTIM}, 203.0.113.6", "/models", wrong)
    expect(400, f"203.0.113.6 {PLAIN}", "/models", wrong)
    print("203.0.113.6 5")


main()
