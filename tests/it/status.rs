//! `portcullis status`: ready, not ready, not there.

use mock_ollama::Mock;
use serde_json::Value;
use tokio::time::Instant;

use crate::command::run;
use crate::harness::{Gateway, PATIENCE};

fn status(gate: &Gateway, more: &[&str]) -> (i32, String) {
    let (port, folder) = (gate.ops.port().to_string(), gate.folder.display().to_string());
    let env =
        [("PORTCULLIS_OPS_PORT", port.as_str()), ("PORTCULLIS_DATA_DIR", &folder), ("OLLAMA_API_KEY", "x")];
    let (code, out, errors) = run(&[&["status"], more].concat(), &env);
    assert!(errors.is_empty(), "{errors}");
    (code, out)
}

#[tokio::test(flavor = "multi_thread")]
async fn says_whether_it_is_ready_and_what_was_used() {
    let mut gate = Gateway::before(Mock::start().await.unwrap(), &[]);
    for _ in 0..3 {
        assert_eq!(gate.chat(false).await.status, 200);
    }
    crate::audit::rows(&gate.folder, 3).await;
    let (code, out) = status(&gate, &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("runs and is ready") && out.contains("0 running (4 slots), 0 waiting"), "{out}");
    assert!(out.contains("3 requests, 0 refused"), "{out}");

    gate.mock.stop_listening().await;
    gate.mock.cut_connections();
    // What the model server said a moment ago is said again.
    let begun = Instant::now();
    let (code, out) = loop {
        let said = status(&gate, &["--json"]);
        if said.0 != 0 || begun.elapsed() > PATIENCE {
            break said;
        }
    };
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &said["ready"], &said["running"]),
        (1, &Value::Bool(false), &Value::Bool(true)),
        "{out}"
    );
    assert_eq!(said["upstream"]["up"], false, "{out}");

    gate.stop().await.unwrap();
    let (code, out) = status(&gate, &[]);
    assert!(code == 1 && out.contains("does not answer") && out.contains("3 requests"), "{out}");
}
