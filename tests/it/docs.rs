//! What the documents say is what the code reads.

use std::path::Path;

use portcullis::config::env::Env;
use portcullis::config::keys::KEYS;
use portcullis::config::{Config, Faults, Raw};

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The example with every line switched on.
fn example() -> String {
    let written = |line: &&str| {
        let bare = line.trim_start_matches("# ");
        bare.starts_with('[')
            || bare
                .split_once(" = ")
                .is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let text = read("portcullis.example.toml");
    let lines: Vec<_> = text.lines().filter(written).map(|line| line.trim_start_matches("# ")).collect();
    lines.join(
        "
",
    )
}

#[test]
fn the_example_names_every_key_at_its_default() {
    let (mut raw, mut faults) = (Raw::default(), Faults::default());
    raw.read_toml(&example(), Path::new("portcullis.example.toml"), &mut faults);
    assert!(faults.0.is_empty(), "{faults}");
    for key in KEYS {
        let Some((value, _)) = raw.get(key.name) else { panic!("{} is missing in the example", key.name) };
        if !matches!(key.name, "keys.api_key" | "data.dir" | "data.store" | "data.limits") {
            assert_eq!(value, key.default, "{}", key.name);
        }
    }
}

#[test]
fn the_example_as_it_is_holds() {
    let folder = std::env::temp_dir().join(format!("portcullis-example-{}.toml", std::process::id()));
    std::fs::write(&folder, read("portcullis.example.toml")).unwrap();
    let loaded = Config::load(Some(&folder), &Env::default(), |_, _| {});
    std::fs::remove_file(&folder).unwrap();
    assert!(loaded.is_ok(), "{:?}", loaded.unwrap_err());
}

#[test]
fn the_configuration_page_lists_every_key_and_name() {
    let page = read("docs/CONFIG.md");
    for key in KEYS {
        assert!(page.contains(key.name), "{} is missing in docs/CONFIG.md", key.name);
        assert!(page.contains(&key.env_name()), "{} is missing in docs/CONFIG.md", key.env_name());
        for older in key.older {
            assert!(page.contains(older), "{older} is missing in docs/CONFIG.md");
        }
    }
}

/// `build.rs` takes indentation and comments out of them, line by line.
#[test]
fn no_text_of_the_pages_scripts_spans_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/js");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 400, "{} is too long", path.display());
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(line.matches('`').count().is_multiple_of(2), "{}: {line}", path.display());
        }
    }
}

/// Whatever the documents show of a configuration file is one.
#[test]
fn every_piece_of_configuration_in_the_documents_holds() {
    let mut tried = 0;
    for name in [
        "docs/IDENTITY.md",
        "docs/CONFIG.md",
        "docs/OPERATIONS.md",
        "docs/MIGRATING.md",
        "deploy/cloudflare/README.md",
    ] {
        let page = read(name);
        for block in page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            // Blocks in a list are indented.
            let text = block.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
            let (mut raw, mut faults) = (Raw::default(), Faults::default());
            raw.read_toml(&text, Path::new(name), &mut faults);
            assert!(faults.0.is_empty(), "{name}: {faults}\n{text}");
            let file = std::env::temp_dir().join(format!("portcullis-doc-{}.toml", std::process::id()));
            std::fs::write(&file, &text).unwrap();
            let loaded = Config::load(Some(&file), &Env::default(), |_, _| {});
            std::fs::remove_file(&file).unwrap();
            assert!(loaded.is_ok(), "{name}: {}\n{text}", loaded.unwrap_err());
            tried += 1;
        }
    }
    assert!(tried >= 4, "only {tried}");
}

/// The commands that are marked as tested, one after another on one data folder.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_documents_work() {
    let gate = crate::harness::Gateway::start().await;
    assert_eq!(gate.chat(false).await.status, 200);
    crate::audit::rows(&gate.folder, 1).await;
    let page = ["docs/ADMIN.md", "docs/IDENTITY.md"].map(read).concat();
    let blocks = page.split("<!-- tested -->\n```bash\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<_> = blocks.flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let words = line.split_whitespace().map(|word| word.trim_matches('\'')).skip(1);
        let (code, out, errors) = crate::keys::command(&gate.folder, &words.collect::<Vec<_>>());
        assert_eq!(code, 0, "{line}: {errors}");
        assert!(!out.is_empty(), "{line} says nothing");
    }
}

/// Each client has a line that says where its key goes, and how that is known; the places that people look at lead there.
#[test]
fn the_table_of_clients_is_whole_and_found() {
    let page = read("docs/CLIENTS.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| client"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for client in [
        "ollama-python",
        "ollama-js",
        "LangChain",
        "LlamaIndex",
        "haystack",
        "Home Assistant",
        "n8n",
        "Open WebUI",
    ] {
        assert!(rows.iter().any(|row| row[0].contains(client)), "{client} is missing");
    }
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(!row[1].is_empty(), "{row:?}");
        assert!(["tried", "read", "watched"].iter().any(|how| row[4].starts_with(how)), "{row:?}");
        // What is said to be tried is.
        for test in row[4].split('`').skip(1).step_by(2) {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(test).exists(), "{test}");
        }
    }
    assert!(read("README.md").contains("(docs/CLIENTS.md)"));
    let migrating = read("docs/MIGRATING.md");
    assert!(
        migrating.contains("(CLIENTS.md)")
            && migrating.contains("## Keys for programs that read OLLAMA_API_KEY")
    );
}
