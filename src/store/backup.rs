//! A copy of the data folder in one file, made while the gateway runs, and the way back.
//!
//! The file is a store with one table more, which holds the files beside it. Takes a folder; promises a copy of one moment, readable by its
//! owner alone, and a restored folder whose audit verifies. Refuses to write over anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::{FILE, Store, StoreError};

const TABLE: &str = "backup_files";

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

fn other(error: &io::Error) -> StoreError {
    StoreError::Other(error.kind().to_string())
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

/// Copies the folder's store, and those of the files `beside` it that there are, into one new file.
pub fn back_up(folder: &Path, beside: &[&str], to: &Path) -> Result<Copied, StoreError> {
    let free = || match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(to)(error)),
        Ok(_) => Err(StoreError::Conflict(format!("{} is there already", to.display()))),
    };
    free()?;
    // SQLite takes a name as text, and another text would be another file.
    let name =
        to.to_str().ok_or_else(|| StoreError::Conflict(format!("{} is no name in UTF-8", to.display())))?;
    let draft = Draft(PathBuf::from(format!("{name}.{}", std::process::id())));
    let store = Store::read(folder)?;
    // Before the store: it then has at least the rows that the heads speak of.
    let files = read_beside(folder, beside)?;
    // Made by us, so that nobody else can read it for a moment; an empty file is what SQLite may copy into.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.0).map_err(at(to))?;
    store.db.execute("VACUUM INTO ?1", [draft.0.to_string_lossy()])?;
    let db = Connection::open(&draft.0)?;
    db.execute_batch(&format!(
        "CREATE TABLE {TABLE} (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID"
    ))?;
    for (name, content) in files {
        db.execute(&format!("INSERT INTO {TABLE} VALUES (?1, ?2)"), params![name, content])?;
    }
    let copied = count(&db, &draft.0)?;
    db.close().map_err(|(_, error)| error)?;
    File::open(&draft.0).and_then(|file| file.sync_all()).map_err(at(to))?;
    free()?;
    fs::rename(&draft.0, to).map_err(at(to))?;
    Ok(copied)
}

fn read_beside(folder: &Path, beside: &[&str]) -> Result<Vec<Beside>, StoreError> {
    let mut files = Vec::new();
    for name in beside {
        match fs::read(folder.join(name)) {
            Ok(content) => files.push(((*name).to_owned(), content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(Path::new(name))(error)),
        }
    }
    Ok(files)
}

fn count(db: &Connection, file: &Path) -> Result<Copied, StoreError> {
    let rows = |table: &str| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    let bytes = fs::metadata(file).map_err(|error| other(&error))?.len();
    Ok(Copied { bytes, keys: rows("keys")?, rows: rows("audit")? })
}

/// Brings a copy back into a folder that is ours alone ([`super::InUse::alone`]). What is there is refused or, with `replace`, set aside
/// under another name. Everything is on the disk before anything is moved, and a move that fails is taken back.
pub fn restore(
    from: &Path,
    folder: &Path,
    beside: &[&str],
    replace: Option<i64>,
) -> Result<Copied, StoreError> {
    super::make(folder).map_err(at(folder))?;
    let is_there = |name: &String| fs::symlink_metadata(folder.join(name)).is_ok();
    let there: Vec<_> = parts(beside).filter(is_there).collect();
    if replace.is_none() && !there.is_empty() {
        let text = format!("there is a store in {} already: --replace sets it aside", folder.display());
        return Err(StoreError::Conflict(text));
    }
    let draft = |name: &str| Draft(folder.join(format!("{name}.restoring")));
    let mut drafts = vec![(FILE.to_owned(), draft(FILE))];
    let (copied, files) = unpack(from, &folder.join(format!("{FILE}.restoring")))?;
    for (name, content) in files.into_iter().filter(|(name, _)| beside.contains(&name.as_str())) {
        let file = draft(&name);
        write(&file.0, &content).map_err(at(folder))?;
        drafts.push((name, file));
    }
    for (_, draft) in &drafts {
        super::own(folder, &draft.0).map_err(at(folder))?;
    }
    let mut moves = Moves::default();
    for name in there {
        let aside = aside(folder, &name, replace.unwrap_or_default());
        moves.add(&folder.join(&name), &aside).map_err(at(folder))?;
    }
    for (name, draft) in &drafts {
        moves.add(&draft.0, &folder.join(name)).map_err(at(folder))?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    moves.keep();
    Ok(copied)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A name that nothing has.
fn aside(folder: &Path, name: &str, now: i64) -> PathBuf {
    let first = folder.join(format!("{name}.replaced-{now}"));
    let others = (1..).map(|n: u32| folder.join(format!("{name}.replaced-{now}-{n}")));
    let free = std::iter::once(first.clone()).chain(others).find(|path| fs::symlink_metadata(path).is_err());
    free.unwrap_or(first)
}

/// Files that were moved; taken back, the last first, unless they are kept.
#[derive(Default)]
struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    fn add(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.0.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        for (from, to) in self.0.drain(..).rev() {
            // What cannot be moved back stays under its other name, and is not lost.
            let _stays = fs::rename(to, from);
        }
    }
}

/// Every file that a restored folder brings along.
fn parts(beside: &[&str]) -> impl Iterator<Item = String> {
    let store = ["", "-wal", "-shm"].into_iter().map(|tail| format!("{FILE}{tail}"));
    store.chain(beside.iter().map(ToString::to_string))
}

/// A store of this version, whole, and the files that came with it.
fn unpack(from: &Path, draft: &Path) -> Result<(Copied, Vec<Beside>), StoreError> {
    let no_copy = || StoreError::Conflict(format!("{} is no backup of Portcullis", from.display()));
    let looked =
        Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|_| no_copy())?;
    let found = looked.table_exists(None, TABLE).map_err(|_| no_copy())?;
    drop(looked);
    if !found {
        return Err(no_copy());
    }
    fs::copy(from, draft).map_err(at(from))?;
    fs::set_permissions(draft, fs::Permissions::from_mode(0o600)).map_err(at(draft))?;
    let mut store = Store { db: Connection::open(draft)? };
    let files = {
        let mut query = store.db.prepare(&format!("SELECT name, content FROM {TABLE}"))?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()?
    };
    store.db.execute_batch(&format!("DROP TABLE {TABLE}"))?;
    store.prepare()?;
    store.check(true)?;
    let copied = count(&store.db, from)?;
    // Into one file again: the others would stay behind under the draft's name.
    store.db.pragma_update(None, "journal_mode", "DELETE")?;
    store.db.close().map_err(|(_, error)| error)?;
    File::open(draft).and_then(|file| file.sync_all()).map_err(at(draft))?;
    Ok((copied, files))
}

/// A file that goes away unless it was renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Folder;
    use std::os::unix::ffi::OsStrExt;

    const BESIDE: &[&str] = &["audit.key", "generated.key"];

    #[test]
    fn a_copy_comes_back_and_overwrites_nothing() {
        let (folder, away) = (Folder::new(), Folder::new());
        fs::create_dir_all(&away.0).unwrap();
        let copy = away.0.join("copy");
        drop(Store::open(&folder.0).unwrap());
        fs::write(folder.0.join("audit.key"), "k").unwrap();
        let made = back_up(&folder.0, BESIDE, &copy).unwrap();
        assert_eq!((made.keys, made.rows), (0, 0));
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(back_up(&folder.0, BESIDE, &copy), Err(StoreError::Conflict(_))));
        let odd = away.0.join(std::ffi::OsStr::from_bytes(b"odd-\xff"));
        assert!(matches!(back_up(&folder.0, BESIDE, &odd), Err(StoreError::Conflict(_))));
        assert!(matches!(restore(&copy, &folder.0, BESIDE, None), Err(StoreError::Conflict(_))));
        let new = away.0.join("new");
        restore(&copy, &new, BESIDE, None).unwrap();
        Store::open(&new).unwrap().check(true).unwrap();
        assert_eq!(fs::read_to_string(new.join("audit.key")).unwrap(), "k");
        for _ in 0..2 {
            restore(&copy, &new, BESIDE, Some(7)).unwrap();
        }
        for name in ["portcullis.db.replaced-7", "portcullis.db.replaced-7-1", "audit.key.replaced-7-1"] {
            assert!(new.join(name).exists(), "{name}");
        }
        let left: Vec<_> = fs::read_dir(&away.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_restore_that_fails_leaves_what_was_there() {
        let (folder, away) = (Folder::new(), Folder::new());
        fs::create_dir_all(&away.0).unwrap();
        drop(Store::open(&folder.0).unwrap());
        let (key, copy) = (folder.0.join("audit.key"), away.0.join("copy"));
        fs::write(&key, "k").unwrap();
        back_up(&folder.0, BESIDE, &copy).unwrap();
        fs::write(&key, "mine").unwrap();
        let mut moves = Moves::default();
        moves.add(&key, &folder.0.join("audit.key.replaced-1")).unwrap();
        assert!(moves.add(&folder.0.join("nowhere"), &key).is_err());
        drop(moves);
        assert_eq!(fs::read_to_string(&key).unwrap(), "mine");
        // A link that leads nowhere is set aside as a file is.
        fs::remove_file(&key).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", &key).unwrap();
        restore(&copy, &folder.0, BESIDE, Some(1)).unwrap();
        assert_eq!(fs::read_to_string(&key).unwrap(), "k");
    }

    /// As root (in CI): what is restored belongs to whom the folder belongs. Else everything is ours anyway.
    #[test]
    fn a_restored_store_is_its_folder_s_owner_s() {
        use crate::store::InUse;
        use std::os::unix::fs::MetadataExt;
        let (folder, away) = (Folder::new(), Folder::new());
        drop(Store::open(&folder.0).unwrap());
        fs::write(folder.0.join("audit.key"), "k").unwrap();
        fs::create_dir_all(away.0.join("service")).unwrap();
        let (copy, service) = (away.0.join("copy"), away.0.join("service"));
        let owner =
            if rustix::process::geteuid().is_root() { 4_321 } else { rustix::process::geteuid().as_raw() };
        std::os::unix::fs::chown(&service, Some(owner), None).unwrap();
        back_up(&folder.0, BESIDE, &copy).unwrap();
        drop(InUse::alone(&service).unwrap());
        restore(&copy, &service, BESIDE, None).unwrap();
        for entry in fs::read_dir(&service).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().uid(), owner, "{:?}", entry.file_name());
        }
    }

    #[test]
    fn what_is_no_copy_is_refused() {
        let (folder, away) = (Folder::new(), Folder::new());
        drop(Store::open(&folder.0).unwrap());
        fs::create_dir_all(&away.0).unwrap();
        let file = away.0.join("file");
        for content in [&b""[..], b"no database at all, but some text of some length"] {
            fs::write(&file, content).unwrap();
            assert!(restore(&file, &away.0.join("new"), BESIDE, None).is_err());
        }
        assert!(
            restore(&folder.0.join(FILE), &away.0.join("new"), BESIDE, None).is_err(),
            "a store is no copy of one"
        );
        assert!(restore(&away.0.join("nowhere"), &away.0.join("new"), BESIDE, None).is_err());
        let copy = away.0.join("copy");
        back_up(&folder.0, BESIDE, &copy).unwrap();
        // A name that leads out of the folder is not followed.
        let db = Connection::open(&copy).unwrap();
        db.execute(&format!("INSERT INTO {TABLE} VALUES ('../escaped', x'00')"), []).unwrap();
        db.close().unwrap();
        restore(&copy, &away.0.join("new"), BESIDE, None).unwrap();
        assert!(!away.0.join("escaped").exists());
        let whole = fs::read(&copy).unwrap();
        fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
        assert!(restore(&copy, &away.0.join("other"), BESIDE, None).is_err(), "half of a copy");
        assert!(!away.0.join("other").join(FILE).exists());
    }
}
