"""Reads the files under deploy/ as their platforms do, for tests/e2e/container.sh. Needs PyYAML.

    deployed.py environment DOCKERFILE     prints NAME=VALUE of the last stage's ENV, with the defaults of its ARGs
    deployed.py images                     compares the Dockerfiles with Cargo.toml, the Space's head and each other
    deployed.py manifests FILE...          compares the manifests with each other and with portcullis.toml; FILE holds all of
                                           them. Prints NAME=VALUE of the container's env, the key's file left out
"""

import pathlib
import re
import shlex
import sys
import tomllib

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONTAINER = ROOT / "deploy/container/Dockerfile"
SPACE = ROOT / "deploy/space"
KUBERNETES = ROOT / "deploy/kubernetes"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def must(held, what):
    if not held:
        sys.exit(f"deployed.py: {what}")


def instructions(dockerfile):
    """Each instruction of a Dockerfile and the rest of its line, continued lines joined, comments gone."""
    text = dockerfile.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def pairs(rest):
    return [word.split("=", 1) if "=" in word else [word, ""] for word in shlex.split(rest)]


def stages(dockerfile):
    """The stages in order: name or None, arguments with their defaults, ENV, and all of its instructions."""
    found, everywhere = [], {}
    for name, rest in instructions(dockerfile):
        if name == "FROM":
            words = rest.split()
            found.append({"as": words[2] if len(words) > 2 else None, "arg": dict(everywhere), "env": {}, "all": []})
        elif name == "ARG":
            (found[-1]["arg"] if found else everywhere).update(pairs(rest))
        elif name == "ENV":
            known = {**found[-1]["arg"], **found[-1]["env"]}
            for key, value in pairs(rest):
                found[-1]["env"][key] = re.sub(r"\$\{(\w+)\}", lambda m: known[m.group(1)], value)
        if found:
            found[-1]["all"].append((name, rest))
    return found


def one(stage, name):
    values = [rest for found, rest in stage["all"] if found == name]
    return values[-1] if values else None


def images():
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]
    for dockerfile in (CONTAINER, SPACE / "Dockerfile"):
        last, everywhere = stages(dockerfile)[-1], stages(dockerfile)[0]["arg"]
        must(everywhere["RUST_VERSION"] == rust["rust-version"], f"{dockerfile}: RUST_VERSION is not Cargo.toml's rust-version")
        must(re.fullmatch(r"\d+\.\d+\.\d+", everywhere["OLLAMA_VERSION"]), f"{dockerfile}: OLLAMA_VERSION is not pinned")
        must(one(last, "USER") == "1000:1000", f"{dockerfile}: it does not run as 1000:1000")
        must(last["env"]["OLLAMA_HOST"].startswith("127.0.0.1:"), f"{dockerfile}: Ollama is not bound to loopback")
        must(one(last, "ENTRYPOINT") == '["/usr/local/bin/start.sh"]', f"{dockerfile}: start.sh does not start it")
        must(one(last, "EXPOSE") == last["env"]["PORT"] == "7860", f"{dockerfile}: the ports differ")
        must("OLLAMA_API_KEY" not in dockerfile.read_text(encoding="utf-8"), f"{dockerfile}: a key has no place in an image")
    gateway = next(stage for stage in stages(CONTAINER) if stage["as"] == "gateway")
    must(one(gateway, "USER") == "1000:1000" and one(gateway, "FROM").split()[0] == "scratch", "the gateway's image")
    space = stages(SPACE / "Dockerfile")
    must(space[0]["arg"]["SOURCE_TAG"] == f"v{rust['version']}", "the Space's SOURCE_TAG is not Cargo.toml's version")
    for name in ("RUST_VERSION", "OLLAMA_VERSION"):
        must(space[0]["arg"][name] == stages(CONTAINER)[0]["arg"][name], f"{name} differs between the Dockerfiles")

    _, head, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(head)
    must(head["sdk"] == "docker" and head["app_port"] == int(space[-1]["env"]["PORT"]), "the Space's sdk or app_port")
    must({head["colorFrom"], head["colorTo"]} <= COLOURS, "the Space's colours")
    must(head["title"] and head["emoji"] and not head["emoji"].isascii(), "the Space's title or emoji")
    must(head["license"] == rust["license"].lower(), "the Space's license is not Cargo.toml's")
    must(len(head["short_description"]) <= 60, "the Space's short_description is longer than 60 characters")
    must(head["pinned"] is False, "pinned is the user's choice")


def manifests(*files):
    found = {}
    for file in files:
        for document in yaml.safe_load_all(pathlib.Path(file).read_text(encoding="utf-8")):
            found[document["kind"], document["metadata"]["name"]] = document
    config = tomllib.loads((KUBERNETES / "portcullis.toml").read_text(encoding="utf-8"))
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8"))
    deployment = found["Deployment", "portcullis"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    labels = deployment["template"]["metadata"]["labels"]
    (port,) = container["ports"]
    port = port["containerPort"]

    must(set(mounts.values()) == set(volumes), "a volume is not mounted, or a mount has no volume")
    must(mounts[config["data"]["dir"]] == "data", "data.dir is not where the disk is")
    must(volumes["data"]["persistentVolumeClaim"]["claimName"] == found["PersistentVolumeClaim", "portcullis-data"]["metadata"]["name"], "the disk")
    must(mounts[str(pathlib.Path(env["PORTCULLIS_CONFIG"]).parent)] == "config", "PORTCULLIS_CONFIG is not in the ConfigMap")
    must(mounts[str(pathlib.Path(env["OLLAMA_API_KEY_FILE"]).parent)] == "api-key", "the key's file is not in the Secret")
    must(volumes["config"]["configMap"]["name"].startswith(kustomization["configMapGenerator"][0]["name"]), "the ConfigMap's name")
    must(pathlib.Path(env["PORTCULLIS_CONFIG"]).name in kustomization["configMapGenerator"][0]["files"], "the ConfigMap's file")
    must(config["listen"]["port"] == port and config["listen"]["address"] == "0.0.0.0", "listen is not what the pod shows")
    must(config["ops"]["address"] == "127.0.0.1", "the operators' listener is not on loopback")
    must(pod["enableServiceLinks"] is False, "service links would be unknown PORTCULLIS_ variables")
    must(pod["automountServiceAccountToken"] is False, "a service-account token is mounted")
    must(deployment["strategy"]["type"] == "Recreate" and deployment["replicas"] == 1, "SQLite has one pod at a time")
    must(pod["terminationGracePeriodSeconds"] > 30, "running answers have 25 s to end")
    must(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000, "the user")
    inner = container["securityContext"]
    must(inner["readOnlyRootFilesystem"] and not inner["allowPrivilegeEscalation"] and inner["capabilities"] == {"drop": ["ALL"]}, "hardening")
    must(container["livenessProbe"]["httpGet"]["path"] == "/healthz", "liveness must not ask Ollama")

    service = found["Service", "portcullis"]["spec"]
    must(service["selector"].items() <= labels.items() and service.get("type", "ClusterIP") == "ClusterIP", "the Service")
    must([(p["port"], p["targetPort"]) for p in service["ports"]] == [(80, "http")], "the Service shows another port")

    upstream = int(config["upstream"]["url"].rsplit(":", 1)[1])
    shut = found["NetworkPolicy", "ollama-only-from-portcullis"]["spec"]
    must([[peer["podSelector"]["matchLabels"] for peer in rule["from"]] for rule in shut["ingress"]] == [[labels]], "others reach Ollama")
    must([p["port"] for rule in shut["ingress"] for p in rule["ports"]] == [upstream], "Ollama's port")
    gate = found["NetworkPolicy", "portcullis"]["spec"]
    must(gate["podSelector"]["matchLabels"].items() <= labels.items(), "the gateway's policy selects other pods")
    must([p["port"] for rule in gate["ingress"] for p in rule["ports"]] == [port], "more than the gateway's port is reached")
    must(gate["egress"][0]["to"][0]["podSelector"] == shut["podSelector"], "the gateway does not reach Ollama")
    return {name: value for name, value in env.items() if name not in ("OLLAMA_API_KEY_FILE", "PORTCULLIS_CONFIG")}


def main(command, *files):
    if command == "environment":
        values = stages(pathlib.Path(files[0]))[-1]["env"]
    elif command == "images":
        values = images() or {}
    else:
        values = manifests(*files)
    for name, value in values.items():
        print(f"{name}={value}")


main(*sys.argv[1:])
