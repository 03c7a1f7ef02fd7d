//! Checking files and putting the model where it belongs.
//!
//! A file has its final name only once it is whole, right and on disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::gguf::hex;

/// Is a file what it should be? Says what it is instead.
///
/// The whole file is read each time: a third of a second a start, and no damage goes unnoticed.
pub(super) fn check(path: &Path, size: u64, sha256: &str) -> Result<(), String> {
    let found = match fs::metadata(path) {
        Ok(data) => data.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("no such file".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    if found != size {
        return Err(format!("has {found} bytes, not {size}: damaged"));
    }
    let hash = File::open(path).and_then(|mut file| copy(&mut file, &mut io::sink()));
    match hash {
        Ok(hash) if hash == sha256 => Ok(()),
        Ok(hash) => Err(format!("has SHA-256 {hash}, not {sha256}: damaged")),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes one file out of a zip file and gives it its final name, if its hash is right.
pub(super) fn unpack(archive: &Path, inner: &str, target: &Path, sha256: &str) -> Result<(), String> {
    let part = target.with_extension(format!("part-{}", std::process::id()));
    let done = extract(archive, inner, &part).and_then(|hash| {
        if hash != sha256 {
            return Err(io::Error::other(format!("{inner} has SHA-256 {hash}, not {sha256}")));
        }
        fs::rename(&part, target)
    });
    if done.is_err() {
        drop(fs::remove_file(&part));
    }
    done.map_err(|error| format!("unpacking {}: {error}", archive.display()))
}

fn extract(archive: &Path, inner: &str, part: &Path) -> io::Result<String> {
    let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
    let mut packed = archive.by_name(inner)?;
    let mut file = File::create(part)?;
    let hash = copy(&mut packed, &mut file)?;
    file.sync_all()?;
    Ok(hash)
}

/// Copies and returns the SHA-256 of what was copied.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = from.read(&mut buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(read);
        to.write_all(read)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noticed() {
        let path = std::env::temp_dir().join(format!("engine-store-{}", std::process::id()));
        fs::write(&path, b"hello").unwrap();
        let right = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(check(&path, 5, right), Ok(()));
        assert!(check(&path, 6, right).unwrap_err().contains("5 bytes"));
        fs::write(&path, b"hellO").unwrap();
        assert!(check(&path, 5, right).unwrap_err().contains("damaged"));
        let target = path.with_extension("model");
        assert!(unpack(&path, "x", &target, right).unwrap_err().contains("unpacking"));
        assert!(!target.exists());
        fs::remove_file(&path).unwrap();
        assert_eq!(check(&path, 5, right), Err("no such file".into()));
    }
}
