//! A backup of a gateway that runs, and the way back: keys open, the audit verifies.

use std::net::SocketAddr;

use mock_ollama::Mock;

use crate::client::Conn;
use crate::command::{Running, run};
use crate::doors::Folder;
use crate::harness::{KEY, MODEL, chat, post};

/// Exit code, stdout, stderr.
type Run = (i32, String, String);

#[tokio::test]
async fn a_backup_of_a_running_gateway_opens_and_verifies_elsewhere() {
    let (mock, folder) = (Mock::start().await.unwrap(), Folder::new("backup"));
    let (data, other, copy) = (folder.file("data"), folder.file("other"), folder.file("copy"));
    let url = mock.url();
    let env = |data: &str| {
        [
            ("PORTCULLIS_DATA_DIR", data.to_owned()),
            ("OLLAMA_LOCAL_URL", url.clone()),
            ("OLLAMA_MODEL", MODEL.into()),
            ("PORTCULLIS_OPS_PORT", "0".into()),
        ]
    };
    let with = |data: &str, args: &[&str]| -> Run {
        let env = env(data);
        run(args, &env.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let (code, made, _) = with(&data, &["key", "create", "--name", "laptop", "--json"]);
    assert_eq!(code, 0);
    let key = serde_json::from_str::<serde_json::Value>(&made).unwrap()["key"].as_str().unwrap().to_owned();
    let ask = async |port: u16| {
        let mut conn = Conn::open(SocketAddr::from(([127, 0, 0, 1], port))).await;
        conn.request(&post("/api/chat").replace(KEY, &key), chat(false).as_bytes()).await;
        conn.answer().await.status
    };
    let start = |data: &str| {
        let env = env(data);
        Running::start(&env.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let running = start(&data);
    for _ in 0..20 {
        assert_eq!(ask(running.port).await, 200);
    }
    let (code, out, errors) = with(&data, &["backup", &copy]);
    assert!(code == 0 && out.contains("keys and"), "{out}{errors}");
    assert_eq!(with(&data, &["backup", &copy]).0, 1, "nothing is overwritten");
    // What comes later is not in it, and is in nobody's way.
    assert_eq!(ask(running.port).await, 200);
    let (code, _, errors) = with(&data, &["restore", &copy, "--replace"]);
    assert!(code == 1 && errors.contains("a gateway uses the data folder"), "{errors}");

    let (code, out, errors) = with(&other, &["restore", &copy, "--json"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["keys"],
        2,
        "the generated one and ours"
    );
    let (code, out, errors) = with(&other, &["audit", "verify"]);
    assert_eq!(code, 0, "{out}{errors}");
    let second = start(&other);
    assert_eq!(ask(second.port).await, 200);
    assert_eq!(second.stop().0, 0);
    assert_eq!(with(&other, &["audit", "verify"]).0, 0);

    assert_eq!(running.stop().0, 0);
    over_what_is_there(&data, &copy, &with);
}

/// It is set aside, and no gateway starts meanwhile.
fn over_what_is_there(data: &str, copy: &str, with: &dyn Fn(&str, &[&str]) -> Run) {
    assert_eq!(with(data, &["restore", copy]).0, 1);
    {
        let _restoring = portcullis::store::InUse::alone(std::path::Path::new(data)).unwrap();
        let (code, _, errors) = with(data, &["serve", "--port", "0"]);
        assert!(code == 1 && errors.contains("is being restored"), "{errors}");
    }
    assert_eq!(with(data, &["restore", copy, "--replace"]).0, 0);
    assert_eq!(with(data, &["audit", "verify"]).0, 0);
    let aside =
        std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(aside.into_iter().any(|name| name.starts_with("portcullis.db.replaced-")));
}
