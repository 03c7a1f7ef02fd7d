//! Recorded and published wordings of Ollama and llama.cpp, and what callers hear of them.

use super::*;
use crate::dialect::ollama::answer::error_object;

fn model() -> ModelName {
    ModelName::parse("smollm2:135m").unwrap()
}

fn ask(status: u16, text: &str) -> Fault {
    of_status(status, &error_object(text), &model())
}

#[test]
fn known_texts_keep_their_meaning() {
    let name = "\"smollm2:135m\"";
    let able = |ability: &str| format!("{name} does not support {ability}");
    for (status, text, expected, words) in [
        (400, "registry.ollama.ai/library/smollm2:135m does not support tools", 400, able("tools")),
        (400, "registry.ollama.ai/library/x does not support vision\ntools", 400, able("images")),
        (400, "model does not support multimodal requests", 400, able("images")),
        (
            500,
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            400,
            able("images"),
        ),
        (500, "this model is missing data required for image input", 400, able("images")),
        (
            400,
            "this model only supports one image while more than one image requested",
            400,
            format!("{name} takes only one image a message"),
        ),
        (
            500,
            "vision model only supports a single image per message",
            400,
            format!("{name} takes only one image a message"),
        ),
        (
            500,
            "failed to process inputs: image: unknown format",
            400,
            "an image could not be read: send PNG or JPEG".into(),
        ),
        (400, "illegal base64 data at input byte 0", 400, "an image is not valid base64".into()),
        (404, "model \"x\" not found, try pulling it first", 404, "model 'smollm2:135m' not found".into()),
        (
            500,
            "template: :3:12: executing \"\" at <.Messages>: nil data",
            502,
            "the model's template cannot be used for this request".into(),
        ),
        (
            400,
            "think value \"low\" is not supported for this model",
            400,
            format!("{name} does not take this level of think"),
        ),
        (
            500,
            "option \"num_ctx\" must be of type integer",
            400,
            "options: the model server cannot read what was sent there".into(),
        ),
    ] {
        let fault = ask(status, text);
        assert_eq!((fault.status, &fault.public), (expected, &words), "{text}");
    }
}

/// A status, words, and all texts that mean both.
const CASES: [(u16, &str, &[&str]); 9] = [
    (
        503,
        "too little memory",
        &[
            "model requires more system memory (5.6 GiB) than is available (3.1 GiB)",
            "llama runner process has terminated: CUDA error: out of memory",
            "llama-server reported out-of-memory during startup: cudaMalloc failed: out of memory",
            "llama runner process has terminated: error loading model: unable to allocate CUDA0 buffer",
            "llama-server process has terminated: exit status 1: ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory",
            "memory layout cannot be allocated with num_gpu = 99",
            "Metal: kIOGPUCommandBufferCallbackErrorOutOfMemory",
            "llama_init_from_model: failed to initialize the context: failed to allocate compute pp buffers",
        ],
    ),
    (
        400,
        "longer than the model's context",
        &[
            "the input length exceeds the context length",
            "input after truncation exceeds maximum context length",
            "input exceeds maximum context length and cannot be truncated further",
            "request (3010 tokens) exceeds the available context size (512 tokens), try increasing it",
            "failed to process inputs: input length (9 tokens) exceeds the model's maximum context length (8 tokens)",
            "the request exceeds the available context size. try increasing the context size or enable context shift",
            "input is too large to process. increase the physical batch size",
            "prompt too long; exceeded max context length by 7 tokens",
            "llama-server chat error: map[code:400 message:x type:exceed_context_size_error]",
        ],
    ),
    (
        400,
        "context is full",
        &[
            "Context size has been exceeded.",
            "could not find a kv cache slot (cache: 512 batch: 64)",
            "Deepseek2 does not support K-shift",
        ],
    ),
    (
        400,
        "schema in format or tools",
        &[
            "invalid JSON schema in format",
            "failed to load model vocabulary required for format",
            "Failed to initialize samplers: failed to parse grammar",
            "Unexpected empty grammar stack after accepting piece: =",
            "number of rules that are going to be repeated multiplied by the new repetition exceeds sane defaults",
            "Field 'json_schema': JSON schema conversion failed: Unrecognized schema: {\"type\":\"out of memory\"}",
            "invalid format: \"does not support tools\"; expected \"json\" or a valid JSON Schema object",
        ],
    ),
    (
        400,
        "tools: the model server cannot read",
        &[
            "json: cannot unmarshal array into Go struct field .tools.function.parameters.properties of type map[string]api.ToolProperty",
            "json: cannot unmarshal number into Go struct field ChatRequest.tools.function.parameters.required of type string",
        ],
    ),
    (
        502,
        "could not load \"smollm2:135m\"",
        &[
            "unable to load model: /root/.ollama/models/blobs/sha256-1",
            "llama runner process has terminated: error loading model: unknown model architecture: 'mllama'",
            "error starting llama-server: llama-server binary not found (checked: /usr/local/lib)",
            "tensor \"token_embd.weight\" offset+size (31868992) exceeds file size (30000000)",
            "model failed to load, this may be due to resource limitations or an internal error, check ollama server logs",
            "open /root/.ollama/models/blobs/sha256-1: no such file or directory",
        ],
    ),
    (
        503,
        "took too long to load",
        &[
            "timed out waiting for llama runner to start - progress 0.28 - ",
            "timed out waiting for llama-server to start - ",
        ],
    ),
    (
        503,
        "try again",
        &[
            "server busy, please try again.  maximum pending requests exceeded",
            "unexpected server status: llm server loading model",
            "no slots available after 10 retries",
        ],
    ),
    (
        502,
        "process failed",
        &[
            "llama runner process has terminated: signal: killed",
            "llama-server process no longer running: 2 ",
            "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error",
            "an error was encountered while running the model: unexpected EOF",
            "llama runner process has terminated: GGML_ASSERT(x) failed",
        ],
    ),
];

#[test]
fn every_wording_of_a_case_is_one_case() {
    for (status, words, texts) in CASES {
        for text in texts {
            let whole = ask(500, text);
            assert_eq!(whole.status, status, "{text}");
            assert!(whole.public.contains(words), "{text}: {}", whole.public);
            assert_eq!(whole.retry_after.is_some(), status == 503, "{text}");
            // The same inside an answer, where the model has no name.
            let (within, words) = (of_text(text), words.replace("\"smollm2:135m\"", "the model"));
            assert!(within.status == status && within.public.contains(&words), "{text}: {}", within.public);
        }
    }
}

#[test]
fn errors_inside_errors_are_read() {
    let nested = r#"{"error":{"code":400,"message":"request too long","type":"exceed_context_size_error"}}"#;
    for text in [nested.to_owned(), format!("{nested}\n"), r#"{"error":"context length"}"#.into()] {
        assert_eq!(ask(500, &text).public, "the input is longer than the model's context", "{text}");
        assert_eq!(of_text(&text).public, "the input is longer than the model's context");
    }
    // llama-server's log stands behind its answer where it tells of memory.
    let behind = r#"{"error":{"code":500,"message":"decode failed","type":"server_error"}}"#.to_owned()
        + "\ncudaMalloc failed: out of memory";
    assert_eq!(ask(500, &behind).status, 503);
    let object = br#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
    assert_eq!(
        of_status(503, object, &model()).public,
        "the model server is still loading the model; try again"
    );
}

#[test]
fn what_a_model_wrote_means_nothing() {
    let text = r#"error parsing tool call: raw='{"a":"out of memory, does not support tools /etc/canary"}', err=json: cannot unmarshal string into Go struct field .tools"#;
    for fault in [ask(500, text), of_text(text)] {
        assert_eq!((fault.status, fault.public.contains("tool call")), (502, true));
        assert!(!fault.public.contains("canary") && !fault.detail.contains("canary"), "{fault:?}");
    }
}

#[test]
fn unknown_texts_stay_here() {
    for (status, expected, public) in [
        (400, 400, "the model server refused the request"),
        (401, 502, "the model server failed"),
        (418, 502, "the model server failed"),
        (429, 503, "the model server is busy; try again"),
        (500, 502, "the model server failed"),
        (503, 503, "the model server is busy; try again"),
    ] {
        let fault = ask(status, "something new about host box.lan");
        assert_eq!((fault.status, fault.public.as_str()), (expected, public));
        assert!(!fault.detail.contains("box.lan"), "{}", fault.detail);
    }
    assert_eq!(of_text("something new").public, "the model server failed while answering");
    assert_eq!(of_status(404, b"404 page not found", &model()).status, 502);
    assert_eq!(of_status(503, b"<html>", &model()).retry_after, Some(5));
    // A line may be megabytes long; what it means stands at its head.
    assert_eq!(of_text(&("x".repeat(1 << 20) + "out of memory")).status, 502);
}
