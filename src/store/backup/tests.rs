//! Copies, the way back, and what is none: nothing of a crafted file acts, and what was there stays where a restore fails.

use super::*;
use crate::store::keys::KeyRow;
use crate::store::testing;
use crate::types::{KeyLimits, Scopes};
use std::os::unix::fs::PermissionsExt;

const BESIDE: &[&str] = &["audit.key", "generated.key"];

fn actor() -> Actor {
    Actor { by: "cli:0".into(), via: "cli", peer: None, request_id: 0 }
}

fn copied(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let mut out = Out::make(to)?;
    let copied = back_up(from, BESIDE, &mut out, &actor())?;
    out.keep()?;
    Ok(copied)
}

fn restored(from: &Path, to: &Path, replace: Option<i64>) -> Result<Copied, StoreError> {
    let mut file = opened(from, to)?;
    restore((&mut file, from), to, BESIDE, replace, &actor())
}

#[test]
fn a_copy_comes_back_and_overwrites_nothing() {
    let (folder, away) = (testing::Folder::new(), testing::Folder::new());
    fs::create_dir_all(&away.0).unwrap();
    let copy = away.0.join("copy");
    drop(Store::open(&folder.0).unwrap());
    fs::write(folder.0.join("audit.key"), "k").unwrap();
    let made = copied(&folder.0, &copy).unwrap();
    assert_eq!((made.keys, made.rows), (0, 0));
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(copied(&folder.0, &copy), Err(StoreError::Conflict(_))));
    assert!(matches!(restored(&copy, &folder.0, None), Err(StoreError::Conflict(_))));
    let new = away.0.join("new");
    restored(&copy, &new, None).unwrap();
    Store::open(&new).unwrap().check(true).unwrap();
    assert_eq!(fs::read_to_string(new.join("audit.key")).unwrap(), "k");
    for _ in 0..2 {
        restored(&copy, &new, Some(7)).unwrap();
    }
    for name in ["portcullis.db.replaced-7", "portcullis.db.replaced-7-1", "audit.key.replaced-7-1"] {
        assert!(new.join(name).exists(), "{name}");
    }
    let left: Vec<_> = fs::read_dir(&away.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_restore_that_fails_leaves_what_was_there() {
    let (folder, away) = (testing::Folder::new(), testing::Folder::new());
    fs::create_dir_all(&away.0).unwrap();
    drop(Store::open(&folder.0).unwrap());
    let (key, copy) = (folder.0.join("audit.key"), away.0.join("copy"));
    fs::write(&key, "k").unwrap();
    copied(&folder.0, &copy).unwrap();
    fs::write(&key, "mine").unwrap();
    let held = Folder::open(&folder.0).unwrap();
    let mut moves = Moves { folder: &held, done: Vec::new() };
    moves.add("audit.key", "audit.key.replaced-1").unwrap();
    assert!(moves.add("nowhere", "audit.key").is_err());
    drop(moves);
    assert_eq!(fs::read_to_string(&key).unwrap(), "mine");
    // A link that leads nowhere is set aside as a file is.
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", &key).unwrap();
    restored(&copy, &folder.0, Some(1)).unwrap();
    assert_eq!(fs::read_to_string(&key).unwrap(), "k");
}

#[test]
fn what_a_copy_would_do_by_itself_it_does_not() {
    let (folder, away) = (testing::Folder::new(), testing::Folder::new());
    fs::create_dir_all(&away.0).unwrap();
    let mut store = Store::open(&folder.0).unwrap();
    let row = KeyRow {
        id: "Ab12Cd34".into(),
        name: "laptop".into(),
        scopes: Scopes::USE,
        models: Vec::new(),
        limits: KeyLimits::default(),
        note: String::new(),
        created_at: 1,
        expires_at: None,
        revoked_at: None,
        rotated_at: None,
        generated: false,
    };
    store.add_key(&row, &[7; 32], Some(&actor().does("key.create", &row.id))).unwrap();
    drop(store);
    let (copy, endless) = (away.0.join("copy"), away.0.join("endless"));
    copied(&folder.0, &copy).unwrap();
    fs::copy(&copy, &endless).unwrap();
    let crafted = |path: &Path, sql: &str| Connection::open(path).unwrap().execute_batch(sql).unwrap();
    crafted(
        &copy,
        "CREATE TRIGGER again AFTER UPDATE OF revoked_at ON keys BEGIN UPDATE keys SET revoked_at = NULL; END;
         CREATE TRIGGER unseen AFTER INSERT ON actions BEGIN DELETE FROM actions; END;",
    );
    let new = away.0.join("new");
    restored(&copy, &new, None).unwrap();
    let mut store = Store::open(&new).unwrap();
    assert_eq!(store.unsealed_rows().unwrap().len(), 3, "the key, the backup and its restore");
    assert!(store.revoke_key(&row.id, 5, Some(&actor().does("key.revoke", &row.id))).unwrap());
    assert!(store.key(&row.id).unwrap().unwrap().revoked_at.is_some());
    crafted(
        &endless,
        "ALTER TABLE keys RENAME TO others;
         CREATE VIEW keys AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n;",
    );
    assert!(restored(&endless, &away.0.join("other"), None).is_err());
}

#[test]
fn what_is_no_copy_is_refused() {
    let (folder, away) = (testing::Folder::new(), testing::Folder::new());
    drop(Store::open(&folder.0).unwrap());
    fs::create_dir_all(&away.0).unwrap();
    let file = away.0.join("file");
    for content in [&b""[..], b"no database at all, but some text of some length"] {
        fs::write(&file, content).unwrap();
        assert!(restored(&file, &away.0.join("new"), None).is_err());
    }
    assert!(restored(&folder.0.join(FILE), &away.0.join("new"), None).is_err(), "a store is no copy of one");
    assert!(restored(&away.0.join("nowhere"), &away.0.join("new"), None).is_err());
    let copy = away.0.join("copy");
    copied(&folder.0, &copy).unwrap();
    // A name that leads out of the folder is not followed.
    let db = Connection::open(&copy).unwrap();
    db.execute(&format!("INSERT INTO {TABLE} VALUES ('../escaped', x'00')"), []).unwrap();
    db.close().unwrap();
    restored(&copy, &away.0.join("new"), None).unwrap();
    assert!(!away.0.join("escaped").exists());
    let whole = fs::read(&copy).unwrap();
    fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    assert!(restored(&copy, &away.0.join("other"), None).is_err(), "half of a copy");
    assert!(!away.0.join("other").join(FILE).exists());
}
