//! What `verify` finds: every change, gap and insertion, by the first row that does not hold.

use rusqlite::params;

use super::*;
use crate::store::Store;
use crate::store::testing::Folder;

const NOTHING: Mac = [0; 32];

fn row(n: u64) -> AuditRow {
    let begin = Begin {
        request_id: n,
        time: 1_768_645_985_000 + n.cast_signed(),
        key_id: Some("Ab12Cd34".into()),
        peer: Some([127, 0, 0, 1].into()),
        method: "POST".into(),
        route: "/api/chat".into(),
        model: Some("alpha:latest".into()),
        stream: true,
    };
    AuditRow { output_tokens: Some(0), ..begin.interrupted() }
}

fn segment(name: &str, before: Mac) -> Segment {
    Segment {
        name: name.into(),
        form: FORM,
        started_at: 1,
        ended_at: None,
        before,
        head: before,
        dropped: false,
        rows: 0,
        open: 0,
    }
}

/// A store with two segments of five rows.
fn filled(folder: &Folder) -> (Store, ChainKey, Vec<Segment>) {
    let mut store = Store::open(&folder.0).unwrap();
    let key = ChainKey::of(&folder.0).unwrap();
    let mut done = Vec::new();
    let mut before = NOTHING;
    for name in ["a", "b"] {
        let new = segment(name, before);
        store.keep_segment(&key, &new).unwrap();
        let batch = Batch { rows: (1..=5).map(row).collect(), ..Batch::default() };
        let after = store.append(&key, &new, "boot", &batch, &[]).unwrap();
        before = after.head;
        done.push(after);
    }
    (store, key, done)
}

fn fault(store: &Store, key: &ChainKey, anchors: &[Anchor]) -> String {
    store.verify(key, anchors, None).unwrap().fault.map_or_else(|| "none".into(), |fault| fault.to_string())
}

#[test]
fn what_was_written_holds_and_is_read_back() {
    let folder = Folder::new();
    let (store, key, segments) = filled(&folder);
    let anchors: Vec<_> = segments.iter().map(Anchor::of).collect();
    let report = store.verify(&key, &anchors, None).unwrap();
    assert_eq!((report.rows, report.segments, report.anchors, report.fault), (10, 2, 2, None));
    let tail = store.tail(2, 0).unwrap();
    assert_eq!((tail[0].seq, tail[1].seq, tail[1].row.clone()), (9, 10, row(5)));
    assert!(matches!(ChainKey::read(&folder.0), Ok(Some(_))));
    assert_eq!(Anchor::parse(&anchors[0].to_string()), Some(anchors[0].clone()));
}

#[test]
fn every_column_is_covered() {
    let folder = Folder::new();
    let (store, key, _) = filled(&folder);
    for (column, value) in [
        ("time", "7"),
        ("request_id", "'00000000000000ff'"),
        ("key_id", "NULL"),
        ("peer", "'127.0.0.2'"),
        ("method", "'GET'"),
        ("route", "'/chat'"),
        ("model", "'beta:7b'"),
        ("dialect", "'openai'"),
        ("stream", "0"),
        ("bytes_in", "1"),
        ("bytes_out", "1"),
        ("prompt_tokens", "0"),
        ("output_tokens", "NULL"),
        ("estimated", "1"),
        ("queue_ms", "0"),
        ("first_ms", "0"),
        ("total_ms", "1"),
        ("gpu_ms", "0"),
        ("upstream", "'/api/chat'"),
        ("status", "200"),
        ("ending", "'done'"),
        ("reason", "NULL"),
        ("count", "2"),
        ("mac", "zeroblob(32)"),
        ("action", "'{}'"),
        // These read as what stands there already.
        ("stream", "7"),
        ("request_id", "'2'"),
        ("peer", "'127.0.0.1 '"),
        ("peer", "'::ffff:127.0.0.1'"),
    ] {
        store.db.execute_batch("SAVEPOINT before").unwrap();
        store.db.execute(&format!("UPDATE audit SET {column} = {value} WHERE seq = 7"), []).unwrap();
        assert_eq!(fault(&store, &key, &[]), "row 7: changed", "{column}");
        store.db.execute_batch("ROLLBACK TO before").unwrap();
        assert_eq!(fault(&store, &key, &[]), "none");
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let folder = Folder::new();
    let (store, key, _) = filled(&folder);
    for (column, value) in [("status", "'many'"), ("bytes_in", "-1"), ("mac", "x'00'"), ("route", "x'ff'")] {
        store.db.execute_batch("SAVEPOINT before").unwrap();
        store.db.execute(&format!("UPDATE audit SET {column} = {value} WHERE seq = 7"), []).unwrap();
        let error = store.verify(&key, &[], None).unwrap_err().to_string();
        assert!(error.contains("audit row 7 was changed"), "{column}: {error}");
        store.db.execute_batch("ROLLBACK TO before").unwrap();
    }
}

#[test]
fn gaps_insertions_and_forgeries_are_named() {
    let folder = Folder::new();
    let (store, key, segments) = filled(&folder);
    let anchors: Vec<_> = segments.iter().map(Anchor::of).collect();
    let copy = "INSERT INTO audit SELECT 11, boot, n + 1, time, request_id, key_id, peer, method, route, model, dialect, stream, \
                bytes_in, bytes_out, prompt_tokens, output_tokens, estimated, queue_ms, first_ms, total_ms, gpu_ms, upstream, \
                status, ending, reason, count, mac, action FROM audit WHERE seq = 10";
    for (change, expected) in [
        ("DELETE FROM audit WHERE seq = 3", "row 4: 1 row(s) before it are missing"),
        ("DELETE FROM audit WHERE seq >= 9", "segment b: the last 2 row(s) are missing"),
        ("DELETE FROM audit", "segment a: the last 5 row(s) are missing"),
        (copy, "row 11: inserted: its segment ended before it"),
        ("UPDATE audit SET n = 2 WHERE seq = 3", "row 3: inserted: there is a row with its number"),
        ("UPDATE audit SET boot = 'x' WHERE seq = 3", "row 3: inserted: its segment is unknown"),
        ("UPDATE audit_chain SET rows = 4 WHERE boot = 'b'", "segment b: its facts were changed"),
        ("UPDATE audit_chain SET dropped = 1 WHERE boot = 'a'", "segment a: its facts were changed"),
        (
            "DELETE FROM audit WHERE boot = 'a'; DELETE FROM audit_chain WHERE boot = 'a'",
            "segment b: the segment before it is missing",
        ),
        (
            "DELETE FROM audit WHERE boot = 'b'; DELETE FROM audit_chain WHERE boot = 'b'",
            "segment b was noted and is missing",
        ),
    ] {
        store.db.execute_batch(&format!("SAVEPOINT before; {change}")).unwrap();
        assert_eq!(fault(&store, &key, &anchors), expected, "{change}");
        store.db.execute_batch("ROLLBACK TO before").unwrap();
    }
    let another = ChainKey::from_bytes(&[9; 32]);
    assert_eq!(fault(&store, &another, &[]), "segment a: its facts were changed");
}

#[test]
fn an_older_state_of_the_store_is_seen_by_the_heads_that_were_noted() {
    let folder = Folder::new();
    let (mut store, key, segments) = filled(&folder);
    let batch = Batch { rows: vec![row(6)], ..Batch::default() };
    let after = store.append(&key, &segments[1], "boot", &batch, &[]).unwrap();
    store.db.execute("DELETE FROM audit WHERE seq = 11", []).unwrap();
    store.keep_segment(&key, &segments[1]).unwrap();
    assert_eq!(fault(&store, &key, &[]), "none", "the store alone cannot tell");
    assert_eq!(
        fault(&store, &key, &[Anchor::of(&after)]),
        "segment b: rows 6 to 6 are missing: 6 were noted outside of the store, and 5 are there"
    );
}

#[test]
fn old_segments_go_whole_and_keep_their_heads() {
    let folder = Folder::new();
    let (mut store, key, segments) = filled(&folder);
    assert_eq!(store.drop_segment(&key, &segments[0], &segments[0].mac(&key)).unwrap(), 5);
    let report = store.verify(&key, &[Anchor::of(&segments[0])], None).unwrap();
    assert_eq!((report.rows, report.segments, report.fault), (5, 2, None));
}

#[test]
fn begins_wait_for_their_ends() {
    let folder = Folder::new();
    let (mut store, key, segments) = filled(&folder);
    let begin = |id| Begin {
        request_id: id,
        time: 5,
        key_id: None,
        peer: None,
        method: "POST".into(),
        route: "/chat".into(),
        model: None,
        stream: false,
    };
    let batch = Batch { begins: [1, 2].map(|id| (id, begin(id))).into(), ..Batch::default() };
    let after = store.append(&key, &segments[1], "one", &batch, &[]).unwrap();
    let batch = Batch { rows: vec![row(1)], ended: vec![1], ..Batch::default() };
    store.append(&key, &after, "one", &batch, &[]).unwrap();
    assert_eq!(store.begun_boots().unwrap(), ["one"]);
    assert_eq!(store.orphans(&key, "one").unwrap(), (vec![begin(2)], 0));
    let open: i64 = store
        .db
        .query_row("SELECT count(*) FROM audit_begin WHERE boot = ?1", params!["one"], |row| row.get(0))
        .unwrap();
    assert_eq!(open, 1);
    store.db.execute("UPDATE audit_begin SET key_id = 'somebody'", []).unwrap();
    assert_eq!(store.orphans(&key, "one").unwrap(), (vec![], 1), "nobody else writes a begin");
    let changed = Segment { ended_at: Some(1), ..segments[0].clone() };
    assert!(
        store.drop_segment(&key, &changed, &segments[0].mac(&key)).is_err(),
        "changed facts are not signed anew"
    );
}

/// Written by the version before rows had a form: three chats, a refusal, a key that was made.
#[test]
fn a_chain_of_the_first_form_still_holds_and_goes_on_in_the_present_one() {
    let folder = Folder::new();
    let held = crate::store::Folder::make(&folder.0).unwrap();
    held.write(ChainKey::FILE, b"2bfd796594ff09b89a54c56be89731f56f00f813c4525da91a982f5dd93c850c\n")
        .unwrap();
    let old = rusqlite::Connection::open(folder.0.join("portcullis.db")).unwrap();
    old.execute_batch(include_str!("form-1.sql")).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let (mut store, key) = (Store::open(&folder.0).unwrap(), ChainKey::read(&folder.0).unwrap().unwrap());
    let noted = "92fc2f0eff0c-1 4 9f82c1c65a39f348ccb15de3bfe9d195a3ba995b81c348085a2824b8ef6d3585";
    let anchors = [Anchor::parse(noted).unwrap()];
    let report = store.verify(&key, &anchors, None).unwrap();
    assert_eq!((report.rows, report.segments, report.fault), (4, 1, None));
    let new = segment("new", anchors[0].head);
    store.keep_segment(&key, &new).unwrap();
    let batch = Batch { rows: vec![row(1)], ..Batch::default() };
    store.append(&key, &new, "boot", &batch, &[]).unwrap();
    assert_eq!(fault(&store, &key, &anchors), "none");
    for (change, expected) in [
        ("UPDATE audit SET action = '{}' WHERE seq = 2", "row 2: changed"),
        ("UPDATE audit SET action = '{}' WHERE seq = 5", "row 5: changed"),
        ("UPDATE audit_chain SET form = 1 WHERE boot = 'new'", "segment new: its facts were changed"),
        (
            "UPDATE audit_chain SET form = 2 WHERE boot <> 'new'",
            "segment 92fc2f0eff0c-1: its facts were changed",
        ),
    ] {
        store.db.execute_batch(&format!("SAVEPOINT before; {change}")).unwrap();
        assert_eq!(fault(&store, &key, &anchors), expected, "{change}");
        store.db.execute_batch("ROLLBACK TO before").unwrap();
    }
}

/// The process of the version before was killed while it answered: what it had begun is known by the next one.
#[test]
fn a_begin_of_the_first_form_is_no_forgery() {
    let folder = Folder::new();
    let held = crate::store::Folder::make(&folder.0).unwrap();
    held.write(ChainKey::FILE, b"b7460aaa41e397d580429ce894e69c4b7b2d871b50342d748b0ca05e338b309e\n")
        .unwrap();
    let old = rusqlite::Connection::open(folder.0.join("portcullis.db")).unwrap();
    old.execute_batch(include_str!("form-1-open.sql")).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let (store, key) = (Store::open(&folder.0).unwrap(), ChainKey::read(&folder.0).unwrap().unwrap());
    let (begins, forged) = store.orphans(&key, "bc04f82cd33d").unwrap();
    assert_eq!((begins.len(), &*begins[0].route, forged), (1, "/api/chat", 0));
}
