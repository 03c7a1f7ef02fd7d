"""The official Python client, as it is published, through the gateway to the engine."""

import os
import sys
import time

import httpx
import ollama

URL, KEY = os.environ["E2E_URL"], os.environ["E2E_KEY"]
SHORT = {"num_predict": 24, "seed": 1}


def client(key=KEY):
    return ollama.Client(host=URL, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=120)


def expect(truth, what):
    if not truth:
        sys.exit(f"python: {what}")


def refused(status, call):
    try:
        call()
    except ollama.ResponseError as error:
        expect(error.status_code == status, f"status {error.status_code} instead of {status}: {error.error}")
        expect(error.error and "{" not in error.error, f"no plain error text: {error.error!r}")
        return
    sys.exit(f"python: no error where {status} was expected")


def streamed(parts, text_of):
    """First piece before the last, the final one marked, and the joined text."""
    times, texts, last = [], [], None
    for part in parts:
        times.append(time.monotonic())
        texts.append(text_of(part) or "")
        last = part
    expect(len(times) > 3, f"only {len(times)} parts")
    expect(times[-1] - times[0] > 0.02, "all parts came at once")
    expect(last.done and last.eval_count and last.eval_duration, f"no final figures: {last}")
    expect("".join(texts).strip(), "no text")


def main():
    models = httpx.get(f"{URL}/models", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).json()["models"]
    model = models[0]["name"]
    api = client()

    hello = [{"role": "user", "content": "Say hello."}]
    answer = api.chat(model=model, messages=hello, options=SHORT)
    expect(answer.message.role == "assistant" and answer.message.content.strip(), f"chat: {answer}")
    expect(answer.done and answer.prompt_eval_count and answer.eval_count, f"chat figures: {answer}")

    turns = [*hello, {"role": "assistant", "content": answer.message.content}, {"role": "user", "content": "Tell me a long story about the rain."}]
    streamed(api.chat(model=model, messages=turns, stream=True, options={"num_predict": 60, "seed": 7}), lambda p: p.message.content)

    answer = api.generate(model=model, prompt="The capital of France is", options=SHORT)
    expect(answer.response.strip(), f"generate: {answer}")
    streamed(api.generate(model=model, prompt="Tell me a long story about the snow.", stream=True, options={"num_predict": 60, "seed": 7}), lambda p: p.response)

    vectors = api.embed(model=model, input=["rain", "snow"]).embeddings
    expect(len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 100, "embed: two vectors of one length")

    refused(401, lambda: client("not-the-key").chat(model=model, messages=hello))
    refused(401, lambda: list(client("not-the-key").chat(model=model, messages=hello, stream=True)))
    refused(404, lambda: api.chat(model="no-such-model:1b", messages=hello))
    refused(404, lambda: list(api.chat(model="no-such-model:1b", messages=hello, stream=True)))
    refused(403, api.list)
    refused(403, lambda: api.pull("smollm2:135m"))


main()
