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
mod tests;
