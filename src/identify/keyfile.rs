//! The generated key: made at first start, kept in clear in a file of mode 0600 in the data folder, the one key that is.

use std::path::{Path, PathBuf};

use super::issue;
use super::key::{ApiKey, KeyError};
use crate::store::{Folder, FolderError, Store, StoreError};

/// In the data folder.
pub const FILE: &str = "generated.key";

/// Why there is no generated key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The folder, or the file in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file holds something else.
    #[error("{} holds no key; delete it to have a new one made", .0.display())]
    Content(PathBuf),
    /// No random bytes.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store of the keys.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key of the data folder, made at the first start; `true`: it is new. None where it was revoked.
pub fn generated_key(folder: &Path, store: &mut Store) -> Result<Option<(ApiKey, bool)>, KeyFileError> {
    Folder::make(folder)?;
    let before = store.generated_key()?;
    if before.as_ref().is_some_and(|row| row.revoked_at.is_some()) {
        forget(folder)?;
        return Ok(None);
    }
    let (key, new) = match read(folder)? {
        Some(key) => (key, false),
        // Somebody deleted the file: nobody has the key any more, and its place is taken.
        None if before.is_some() => return Ok(None),
        None => (make(folder)?, true),
    };
    match before {
        None => issue::adopt(store, &key)?,
        Some(row) if !issue::opens(store, &row, &key)? => {
            tracing::warn!(
                file = FILE,
                "the file holds another key than the store, and opens nothing; `portcullis key rotate {}` mends it",
                row.id
            );
            return Ok(None);
        }
        Some(_) => {}
    }
    Ok(Some((key, new)))
}

/// The key of the data folder is none any more.
pub fn forget(path: &Path) -> Result<(), KeyFileError> {
    Ok(Folder::open(path)?.remove(FILE)?)
}

/// The key of the data folder has another secret now.
pub fn replace(path: &Path, key: &ApiKey) -> Result<(), KeyFileError> {
    Ok(Folder::open(path)?.write(FILE, format!("{}\n", key.reveal()).as_bytes())?)
}

/// The key that the file holds, if it is there.
pub fn read(path: &Path) -> Result<Option<ApiKey>, KeyFileError> {
    let Some(text) = Folder::open(path)?.read_secret(FILE)? else { return Ok(None) };
    ApiKey::parse(text.trim()).map(Some).map_err(|_| KeyFileError::Content(path.join(FILE)))
}

fn make(path: &Path) -> Result<ApiKey, KeyFileError> {
    let key = ApiKey::generate()?;
    replace(path, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn made_once_and_only_for_its_owner() {
        let folder = std::env::temp_dir().join(format!("portcullis-key-{}", std::process::id()));
        let mut store = Store::in_memory();
        let mut ask = || generated_key(&folder, &mut store);
        let (first, new) = ask().unwrap().unwrap();
        assert!(new);
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(ask().unwrap(), Some((first, false)));
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ask(), Err(KeyFileError::Folder(FolderError::Mode(_)))));
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.join(FILE), "nonsense").unwrap();
        assert!(matches!(ask(), Err(KeyFileError::Content(_))));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_older_file_is_adopted_and_a_revoked_key_is_forgotten() {
        let folder = std::env::temp_dir().join(format!("portcullis-key-old-{}", std::process::id()));
        Folder::make(&folder).unwrap();
        let (key, mut store) = (make(&folder).unwrap(), Store::in_memory());
        assert_eq!(generated_key(&folder, &mut store).unwrap(), Some((key.clone(), false)));
        assert_eq!(store.generated_key().unwrap().unwrap().id, key.id());
        store.revoke_key(key.id(), 5, None).unwrap();
        assert_eq!(generated_key(&folder, &mut store).unwrap(), None);
        assert!(!folder.join(FILE).exists(), "the file went with the key");
        assert_eq!(generated_key(&folder, &mut store).unwrap(), None, "no second one is made");
        fs::remove_dir_all(folder).unwrap();
    }
}
