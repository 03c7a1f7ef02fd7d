//! A configuration file, and whether it is to be trusted: what lies in the working folder decides who reaches the models.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::fault::UNREADABLE;

/// Which file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The one that somebody named.
    Named(PathBuf),
    /// One that was found where files are looked for.
    Found(PathBuf),
    /// None was found.
    Nowhere,
}

impl Place {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(path) | Self::Found(path) => Some(path),
            Self::Nowhere => None,
        }
    }

    /// The text of the file; `None`: there is none. A file that was found and belongs to another user is refused, but for root's.
    pub(super) fn read(&self) -> Result<Option<String>, String> {
        let Some(path) = self.path() else { return Ok(None) };
        let fault = |error: std::io::Error| format!("{} {UNREADABLE}: {}", path.display(), error.kind());
        let mut file = File::open(path).map_err(fault)?;
        // What is judged is what is read.
        let meta = file.metadata().map_err(fault)?;
        let owner = meta.uid();
        // A link of somebody else's to a file of ours chooses one that was never meant to be found here.
        let link = path.symlink_metadata().map_err(fault)?.uid();
        let us = rustix::process::geteuid().as_raw();
        let is_foreign = |uid: &u32| *uid != us && *uid != 0;
        let foreign = [owner, link].into_iter().find(is_foreign);
        if let (Self::Found(_), Some(owner)) = (self, foreign) {
            return Err(format!(
                "{0} {UNREADABLE} unasked: it was found in the working folder and belongs to uid {owner}, not to uid {us}; if you mean it: --config {0}",
                path.display()
            ));
        }
        if matches!(self, Self::Found(_)) && meta.mode() & 0o002 != 0 {
            return Err(format!(
                "{0} {UNREADABLE} unasked: it was found in the working folder, and anybody may write to it; chmod o-w {0}, or if you mean it: --config {0}",
                path.display()
            ));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(fault)?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;

    #[test]
    fn what_another_user_left_in_the_folder_is_read_by_name_alone() {
        let path = std::env::temp_dir().join(format!("portcullis-found-{}.toml", std::process::id()));
        std::fs::write(&path, "[listen]\nport = 9\n").unwrap();
        assert!(Place::Found(path.clone()).read().is_ok_and(|text| text.is_some()));
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(4_321), None).unwrap();
            let said = Place::Found(path.clone()).read().unwrap_err();
            assert!(said.contains("belongs to uid 4321") && said.contains("--config"), "{said}");
            let link = path.with_extension("link");
            std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(4_321), None).unwrap();
            let said = Place::Found(link.clone()).read().unwrap_err();
            assert!(said.contains("belongs to uid 4321"), "{said}");
            std::fs::remove_file(link).unwrap();
        }
        assert!(Place::Named(path.clone()).read().is_ok_and(|text| text.is_some()));
        std::fs::remove_file(&path).unwrap();
        assert!(Place::Named(path).read().unwrap_err().contains(UNREADABLE));
        assert_eq!(Place::Nowhere.read(), Ok(None));
    }
}
