//! Store: what outlives the process. Keys, audit and usage in one SQLite file of the data folder, in tables that anybody's SQL can read.
//!
//! Takes rows; promises that what was acknowledged is there after a crash, and that a damaged file is named and not written to.
//! Nothing here is on the request path: keys are looked up in memory, rows are written by one thread (`record`).

pub mod actions;
pub mod audit;
pub mod backup;
mod folder;
pub mod keys;
mod schema;
pub mod usage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

pub use folder::{Folder, FolderError};

/// The file in the data folder.
pub const FILE: &str = "portcullis.db";
/// What SQLite keeps beside it.
const TAILS: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// Somebody else may be writing for so long.
const BUSY: Duration = Duration::from_secs(2);
/// A store up to this size is checked whole at start; a larger one in its small tables.
const CHECK_WHOLE: u64 = 32 << 20;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process writes and does not stop.
    #[error("the store is locked by another process")]
    Locked,
    /// No room.
    #[error("the disk of the store is full")]
    Full,
    /// Its bytes are not what was written.
    #[error("the store is damaged: {0}. Restore a backup, or start once with --quarantine to set it aside")]
    Damaged(String),
    /// A newer version made it.
    #[error("the store was made by a newer version (form {0})")]
    Newer(i64),
    /// The folder, or a file in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file cannot be opened.
    #[error("cannot use the store in {path}: {reason}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What was asked contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// Anything else that SQLite says.
    #[error("the store failed: {0}")]
    Other(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error_code() else { return Self::Other(error.to_string()) };
        match code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Locked,
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// One connection to the store.
#[derive(Debug)]
pub struct Store {
    pub(super) db: Connection,
}

impl Store {
    /// Opens the store of a data folder; makes both where they are not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Folder::make(path)?;
        // Made before SQLite comes to it, and never opened by us afterwards: see `close_to_others`.
        if !folder.has(FILE)? {
            match folder.make_new(FILE) {
                // Another process was first.
                Err(FolderError::Io { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => drop(made?),
            }
        }
        // Names of keys and of models are nobody else's business.
        folder.close_to_others(FILE)?;
        Self::of(&folder)
    }

    /// Is there a store in this folder?
    pub fn is_in(path: &Path) -> bool {
        fs::symlink_metadata(path.join(FILE)).is_ok()
    }

    /// Opens a store that is there; one that is not is not made.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        Self::of(&Folder::open(path)?)
    }

    /// Opens a store that is there, for a connection that changes nothing.
    pub fn read_only(path: &Path) -> Result<Self, StoreError> {
        let store = Self::read(path)?;
        store.db.pragma_update(None, "query_only", true)?;
        Ok(store)
    }

    /// The store that is in this folder.
    fn of(folder: &Folder) -> Result<Self, StoreError> {
        for tail in TAILS {
            folder.has(&format!("{FILE}{tail}"))?;
        }
        let mut store = Self { db: connect(folder, FILE)? };
        store.prepare()?;
        Ok(store)
    }

    /// A store that lives as long as its connection.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let mut store = Self { db: Connection::open_in_memory().unwrap() };
        store.prepare().unwrap();
        store
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        self.db.busy_timeout(BUSY)?;
        self.db.pragma_update(None, "journal_mode", "WAL")?;
        self.db.pragma_update(None, "foreign_keys", true)?;
        schema::bring_up(&mut self.db)
    }

    /// Every commit is on the disk before it is acknowledged (`strict`), or at most the last ones are lost when power fails.
    pub fn durable(&self, strict: bool) -> Result<(), StoreError> {
        Ok(self.db.pragma_update(None, "synchronous", if strict { "FULL" } else { "NORMAL" })?)
    }

    /// Looks for damage. `whole`: in every page; otherwise a large store is looked at in its small tables, and where it is written to.
    pub fn check(&self, whole: bool) -> Result<(), StoreError> {
        let pages: u64 = self.db.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let size: u64 = self.db.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let checks: &[&str] = if whole || pages.saturating_mul(size) <= CHECK_WHOLE {
            &["PRAGMA quick_check(1)"]
        } else {
            &["PRAGMA quick_check(keys)", "PRAGMA quick_check(secrets)", "PRAGMA quick_check(audit_chain)"]
        };
        for check in checks {
            let said: String = self.db.query_row(check, [], |row| row.get(0))?;
            if said != "ok" {
                return Err(StoreError::Damaged(said.lines().next().unwrap_or_default().to_owned()));
            }
        }
        self.try_writing()
    }

    /// Writes where rows will be written, and takes it back.
    fn try_writing(&self) -> Result<(), StoreError> {
        let tried = self.db.execute_batch(
            "BEGIN IMMEDIATE;
             INSERT INTO audit SELECT NULL, '', 0, 0, '', NULL, NULL, '', '', NULL, '', 0, 0, 0, NULL, NULL, 0, NULL, NULL, 0,
               NULL, NULL, 0, '', NULL, 0, zeroblob(32), NULL;
             INSERT INTO usage VALUES ('', '', '', 0, 0, 0, 0, 0, 0, 0);
             INSERT INTO audit_begin VALUES ('', '', 0, NULL, NULL, '', '', NULL, 0, zeroblob(32));",
        );
        if !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK")?;
        }
        Ok(tried?)
    }
}

/// A connection to a file of the folder, which must be there.
fn connect(folder: &Folder, name: &str) -> Result<Connection, StoreError> {
    let fault = |reason: String| StoreError::Open { path: folder.path().to_owned(), reason };
    // SQLite goes by paths: by that of the folder which is held, and through no link.
    let path = folder.real_path()?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path.join(name), flags).map_err(|error| opened(&error, fault))?;
    // Ours has neither views nor triggers: a file that somebody else made does nothing by itself.
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        db.set_db_config(config, on)?;
    }
    Ok(db)
}

fn opened(error: &rusqlite::Error, fault: impl Fn(String) -> StoreError) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) | None => {
            fault("it is not there, or not ours to open; data.dir names another folder".into())
        }
        Some(ErrorCode::NotADatabase) => StoreError::Damaged("it is not a database".into()),
        Some(_) => fault(error.to_string()),
    }
}

/// A data folder in use: by any number of gateways, or by one that replaces what is in it.
#[derive(Debug)]
pub struct InUse {
    _locked: fs::File,
}

impl InUse {
    /// In the data folder.
    const FILE: &'static str = "portcullis.lock";

    /// For a gateway: nobody replaces the store while this is held.
    pub fn shared(path: &Path) -> Result<Self, StoreError> {
        Self::lock(path, FlockOperation::NonBlockingLockShared, "the store is being restored")
    }

    /// For whoever replaces the store: no gateway begins while this is held.
    pub fn alone(path: &Path) -> Result<Self, StoreError> {
        Self::lock(
            path,
            FlockOperation::NonBlockingLockExclusive,
            "a gateway uses the data folder; stop it first",
        )
    }

    fn lock(path: &Path, how: FlockOperation, taken: &str) -> Result<Self, StoreError> {
        let file = Folder::make(path)?.open_or_make(Self::FILE)?;
        match flock(&file, how) {
            Ok(()) => Ok(Self { _locked: file }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Conflict(taken.into())),
            Err(error) => {
                let path = path.join(Self::FILE);
                Err(FolderError::Io { what: "lock", path, error: error.into() }.into())
            }
        }
    }
}

/// Sets a damaged store aside under another name; the name.
pub fn quarantine(path: &Path, now: i64) -> Result<String, FolderError> {
    let folder = Folder::open(path)?;
    for tail in TAILS {
        let part = format!("{FILE}{tail}");
        if folder.is_taken(&part) {
            folder.rename(&part, &format!("{FILE}.damaged-{now}{tail}"))?;
        }
    }
    Ok(format!("{FILE}.damaged-{now}"))
}

/// Seconds since 1970.
pub fn wall() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A folder of its own, gone with it.
    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            Self(std::env::temp_dir().join(format!("portcullis-store-{}-{n}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _gone = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_damaged_store_is_named_and_can_be_set_aside() {
        let folder = Folder::new();
        drop(Store::open(&folder.0).unwrap());
        assert_eq!(fs::metadata(folder.0.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(folder.0.join(FILE), vec![7; 8192]).unwrap();
        let error = Store::open(&folder.0).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        quarantine(&folder.0, 5).unwrap();
        Store::open(&folder.0).unwrap().check(false).unwrap();
        assert!(Store::read(&folder.0.join("nowhere")).is_err());
    }
}
