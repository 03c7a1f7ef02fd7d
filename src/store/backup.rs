//! A copy of the data folder in one file, made while the gateway runs, and the way back.
//!
//! The file is a store with one table more, which holds the files beside it. Takes a folder; promises a copy of one moment, readable by its
//! owner alone, and a restored folder whose audit verifies and says that it was restored. Refuses to write over anything. The copy itself
//! lies where whoever asks for it may write, and is only reached through a file that they opened: in the folder, work is its owner's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde_json::json;

use super::actions::{Actor, RESTORE};
use super::{FILE, Folder, FolderError, Store, StoreError, TAILS, connect};

const TABLE: &str = "backup_files";
/// When the copy was made, in seconds since 1970: it stands among the files, and is none.
const MADE_AT: &str = "made_at";

/// How every SQLite database begins (<https://sqlite.org/fileformat.html>).
const MAGIC: &[u8] = b"SQLite format 3\0";

/// A file beside the store: its name and its content.
type Beside = (String, Vec<u8>);

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Of the file.
    pub bytes: u64,
    /// Keys, revoked ones too.
    pub keys: u64,
    /// Rows of the audit.
    pub rows: u64,
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
            kind => kind.to_string(),
        };
        StoreError::Other(format!("{}: {what}", path.display()))
    }
}

/// A file for a copy, made by whoever asks for it: gone again unless it is kept.
#[derive(Debug)]
pub struct Out {
    to: PathBuf,
    draft: PathBuf,
    file: File,
}

impl Out {
    /// Beside the place where the copy will be, which must be free.
    pub fn make(to: &Path) -> Result<Self, StoreError> {
        is_free(to)?;
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(name);
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(at(to))?;
        Ok(Self { to: to.to_owned(), draft, file })
    }

    /// The copy is whole: it gets its name.
    pub fn keep(self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(at(&self.to))?;
        is_free(&self.to)?;
        fs::rename(&self.draft, &self.to).map_err(at(&self.to))
    }

    /// The name that it will have, without its folder.
    fn name(&self) -> String {
        self.to.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.draft);
    }
}

fn is_free(to: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(to)(error)),
        Ok(_) => Err(StoreError::Conflict(format!("{} is there already", to.display()))),
    }
}

/// Copies the folder's store, and those of the files `beside` it that there are, into one new file. It is made in the folder first, so
/// there must be room for it.
pub fn back_up(path: &Path, beside: &[&str], out: &mut Out, by: &Actor) -> Result<Copied, StoreError> {
    let folder = Folder::open(path)?;
    let mut store = Store::read(path)?;
    // Recorded before, so that it stands in the copy as well.
    store.note_action(&by.does("store.backup", &out.name()))?;
    // Before the store: it then has at least the rows that the heads speak of.
    let files = read_beside(&folder, beside)?;
    let draft = Draft(&folder, format!("{FILE}.copying-{}", std::process::id()));
    for tail in TAILS {
        folder.remove(&format!("{}{tail}", draft.1))?;
    }
    // Made by us, so that nobody else can read it for a moment; an empty file is what SQLite may copy into.
    folder.make_new(&draft.1)?;
    let target = folder.real_path()?.join(&draft.1);
    let target = target.to_str().ok_or_else(|| {
        StoreError::Conflict(format!("the data folder {} has no name in UTF-8", path.display()))
    })?;
    store.db.execute("VACUUM INTO ?1", [target])?;
    let db = connect(&folder, &draft.1)?;
    db.execute_batch(&format!(
        "CREATE TABLE {TABLE} (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID"
    ))?;
    let made_at = (MADE_AT.to_owned(), super::wall().to_string().into_bytes());
    for (name, content) in files.into_iter().chain([made_at]) {
        db.execute(&format!("INSERT INTO {TABLE} VALUES (?1, ?2)"), params![name, content])?;
    }
    let (keys, rows) = count(&db)?;
    db.close().map_err(|(_, error)| error)?;
    let mut copy = folder.open_or_make(&draft.1)?;
    let bytes = io::copy(&mut copy, &mut out.file).map_err(at(&out.to))?;
    Ok(Copied { bytes, keys, rows })
}

fn read_beside(folder: &Folder, beside: &[&str]) -> Result<Vec<Beside>, FolderError> {
    let read = |name: &&str| folder.read(name).map(|content| Some(((*name).to_owned(), content?)));
    beside.iter().filter_map(|name| read(name).transpose()).collect()
}

fn count(db: &Connection) -> Result<(u64, u64), StoreError> {
    let rows = |table: &str| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    Ok((rows("keys")?, rows("audit")?))
}

/// Opens a copy, to be brought into this folder, which may not be there yet.
pub fn opened(from: &Path, to: &Path) -> Result<File, StoreError> {
    match fs::symlink_metadata(to) {
        Ok(_) => Ok(Folder::open(to)?.open_from(from)?),
        Err(_) => File::open(from).map_err(at(from)),
    }
}

/// Brings a copy back into a folder that is ours alone ([`super::InUse::alone`]). What is there is refused or, with `replace`, set aside
/// under another name. Everything is on the disk before anything is moved, and a move that fails is taken back. `from`: the opened copy, and
/// its name for messages and the record.
pub fn restore(
    (from, name): (&mut File, &Path),
    path: &Path,
    beside: &[&str],
    replace: Option<i64>,
    by: &Actor,
) -> Result<Copied, StoreError> {
    let folder = Folder::make(path)?;
    let there: Vec<_> = parts(beside).filter(|name| folder.is_taken(name)).collect();
    if replace.is_none() && !there.is_empty() {
        let text = format!("there is a store in {} already: --replace sets it aside", path.display());
        return Err(StoreError::Conflict(text));
    }
    let draft = |name: &str| Draft(&folder, format!("{name}.restoring"));
    let mut drafts = vec![(FILE.to_owned(), draft(FILE))];
    let (copied, files) = unpack((from, name), &folder, &format!("{FILE}.restoring"), (replace, by))?;
    for (name, content) in files.into_iter().filter(|(name, _)| beside.contains(&name.as_str())) {
        let file = draft(&name);
        folder.write_draft(&file.1, &content)?;
        drafts.push((name, file));
    }
    let mut moves = Moves { folder: &folder, done: Vec::new() };
    for name in there {
        moves.add(&name, &aside(&folder, &name, replace.unwrap_or_default()))?;
    }
    for (name, draft) in &drafts {
        moves.add(&draft.1, name)?;
    }
    folder.sync()?;
    moves.keep();
    Ok(copied)
}

/// A name that nothing has.
fn aside(folder: &Folder, name: &str, now: i64) -> String {
    let first = format!("{name}.replaced-{now}");
    let others = (1..).map(|n: u32| format!("{name}.replaced-{now}-{n}"));
    let free = std::iter::once(first.clone()).chain(others).find(|name| !folder.is_taken(name));
    free.unwrap_or(first)
}

/// Names that were given; taken back, the last first, unless they are kept.
struct Moves<'f> {
    folder: &'f Folder,
    done: Vec<(String, String)>,
}

impl Moves<'_> {
    fn add(&mut self, from: &str, to: &str) -> Result<(), FolderError> {
        self.folder.rename(from, to)?;
        self.done.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn keep(mut self) {
        self.done.clear();
    }
}

impl Drop for Moves<'_> {
    fn drop(&mut self) {
        for (from, to) in self.done.drain(..).rev() {
            // What cannot be moved back stays under its other name, and is not lost.
            let _stays = self.folder.rename(&to, &from);
        }
    }
}

/// Every file that a restored folder brings along, and what processes before it left: what they wrote last is of the other store.
fn parts(beside: &[&str]) -> impl Iterator<Item = String> {
    let store = TAILS.into_iter().map(|tail| format!("{FILE}{tail}"));
    store.chain(beside.iter().map(ToString::to_string)).chain(["boots".to_owned()])
}

/// A store of this version, whole, and the files that came with it.
fn unpack(
    (from, name): (&mut File, &Path),
    folder: &Folder,
    draft: &str,
    (replace, by): (Option<i64>, &Actor),
) -> Result<(Copied, Vec<Beside>), StoreError> {
    let no_copy = || StoreError::Conflict(format!("{} is not a backup of Portcullis", name.display()));
    for tail in TAILS {
        folder.remove(&format!("{draft}{tail}"))?;
    }
    let mut begin = Vec::new();
    Read::by_ref(from).take(MAGIC.len() as u64).read_to_end(&mut begin).map_err(at(name))?;
    if begin != MAGIC {
        return Err(no_copy());
    }
    // Ours until it is known to be a backup: root may have named a file that the folder's owner may not read.
    let mut copy = folder.make_ours(draft)?;
    from.rewind().map_err(at(name))?;
    let bytes = io::copy(from, &mut copy).map_err(at(name))?;
    let mut store = Store { db: connect(folder, draft).map_err(|_| no_copy())? };
    if !store.db.table_exists(None, TABLE).map_err(|_| no_copy())? {
        return Err(no_copy());
    }
    let mut files = {
        let mut query = store.db.prepare(&format!("SELECT name, content FROM {TABLE}"))?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<Beside>, _>>()?
    };
    store.db.execute_batch(&format!("DROP TABLE {TABLE}"))?;
    store.prepare()?;
    store.check(true)?;
    let (keys, rows) = count(&store.db)?;
    let made_at = files.iter().position(|(name, _)| name == MADE_AT).map(|at| files.swap_remove(at).1);
    let made_at = made_at.and_then(|text| String::from_utf8(text).ok()?.parse::<i64>().ok());
    let file = name.file_name().unwrap_or_default().to_string_lossy();
    let facts =
        json!({"backup_made_at": made_at, "audit_rows": rows, "keys": keys, "replaced": replace.is_some()});
    store.note_action(&by.does(RESTORE, &file).changing(serde_json::Value::Null, facts))?;
    // Into one file again: the others would stay behind under the draft's name.
    store.db.pragma_update(None, "journal_mode", "DELETE")?;
    store.db.close().map_err(|(_, error)| error)?;
    folder.hand_over(&copy, draft)?;
    copy.sync_all().map_err(at(name))?;
    Ok((Copied { bytes, keys, rows }, files))
}

/// A file of the folder that goes away unless it was renamed.
struct Draft<'f>(&'f Folder, String);

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        for tail in TAILS {
            let _gone = self.0.remove(&format!("{}{tail}", self.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::issue;
    use crate::store::testing;
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
        let wish = issue::Wish { name: "laptop".into(), ..issue::Wish::default() };
        let (_, key) = issue::create(&mut store, &wish, &actor()).unwrap();
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
        assert!(issue::revoke(&mut store, key.id(), &actor()).unwrap());
        assert!(store.key(key.id()).unwrap().unwrap().revoked_at.is_some());
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
        assert!(
            restored(&folder.0.join(FILE), &away.0.join("new"), None).is_err(),
            "a store is no copy of one"
        );
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
}
