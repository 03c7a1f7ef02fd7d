//! `portcullis status`: ready, not ready, not there.

use mock_ollama::Mock;
use serde_json::Value;
use tokio::time::Instant;

use crate::command::run;
use crate::harness::{Gateway, PATIENCE};

fn status(gate: &Gateway, more: &[&str]) -> (i32, String) {
    let (port, ops) = (gate.address.port().to_string(), gate.ops.port().to_string());
    let folder = gate.folder.display().to_string();
    let env = [
        ("PORT", port.as_str()),
        ("PORTCULLIS_OPS_PORT", &ops),
        ("PORTCULLIS_DATA_DIR", &folder),
        ("OLLAMA_API_KEY", "x"),
    ];
    let (code, out, errors) = run(&[&["status"], more].concat(), &env);
    assert!(errors.is_empty(), "{errors}");
    (code, out)
}

#[tokio::test(flavor = "multi_thread")]
async fn says_whether_it_is_ready_and_what_was_used() {
    let mut gate = Gateway::before(Mock::start().await.unwrap(), &[]);
    let port = gate.address.port().to_string();
    for _ in 0..3 {
        assert_eq!(gate.chat(false).await.status, 200);
    }
    crate::audit::rows(&gate.folder, 3).await;
    let (code, out) = status(&gate, &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("runs and is ready") && out.contains("0 running (4 slots), 0 waiting"), "{out}");
    assert!(out.contains("3 requests, 0 refused"), "{out}");

    // Another gateway's operators' listener says nothing of this one.
    let (ops, folder) = (gate.ops.port().to_string(), gate.folder.display().to_string());
    let other = [("PORT", "1"), ("PORTCULLIS_OPS_PORT", ops.as_str()), ("PORTCULLIS_DATA_DIR", &folder)];
    let (code, out, _) = run(&["status"], &other);
    assert!(code == 1 && out.contains("nothing answers"), "{out}");
    // A fault in the file is told, and keeps nobody from asking; one that may name another folder does.
    let env = [("PORT", port.as_str()), ("PORTCULLIS_DATA_DIR", &folder), ("PORTCULLIS_LIMITS_BODY", "much")];
    let (code, out, errors) = run(&["status"], &env);
    assert!(code == 0 && errors.contains("limits.body"), "{out}{errors}");
    assert_eq!(run(&["key", "list"], &[env[0], env[1], ("PORTCULLIS_DATA_DRI", "x")]).0, 2);

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
    assert!(code == 1 && out.contains("nothing answers") && out.contains("3 requests"), "{out}");
}
