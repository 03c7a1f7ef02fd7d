//! Which models there are: the default one, or the files that `--models` names.
//!
//! Takes paths and promises entries with canonical names. It refuses a folder without a GGUF file, and skips
//! with a warning a file that cannot be read or whose name is taken.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::gguf::{Gguf, Lists};
use crate::log;
use crate::names::{ModelName, NameFault};

/// The default model's name.
pub const DEFAULT_MODEL: &str = "smollm2:135m";

/// One model.
#[derive(Debug)]
pub struct Entry {
    /// Its canonical name.
    pub name: ModelName,
    /// Its file.
    pub path: PathBuf,
    /// What the file says about itself.
    pub gguf: Gguf,
    /// When the file was last written.
    pub modified: SystemTime,
}

impl Entry {
    fn read(name: ModelName, path: &Path) -> io::Result<Self> {
        let modified = std::fs::metadata(path)?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Self { name, path: path.to_owned(), gguf: Gguf::read(path, Lists::Skip)?, modified })
    }

    /// The context length the model was trained for.
    pub fn trained_context(&self) -> u32 {
        self.gguf.of_architecture("context_length").and_then(|n| u32::try_from(n).ok()).unwrap_or(4096).max(4)
    }

    /// Does its template mark turns in the `ChatML` way?
    pub fn is_chatml(&self) -> bool {
        self.gguf.chat_template().is_some_and(|template| template.contains("<|im_start|>"))
    }
}

/// All models, in the order of their names.
#[derive(Debug, Default)]
pub struct Library {
    entries: Vec<Arc<Entry>>,
}

impl Library {
    /// The default model alone.
    pub fn of_default(path: &Path) -> io::Result<Self> {
        let name = ModelName::parse(DEFAULT_MODEL).map_err(|_| io::Error::other("bad default name"))?;
        Ok(Self { entries: vec![Arc::new(Entry::read(name, path)?)] })
    }

    /// The models of files and folders (a folder's GGUF files, not those of folders within).
    pub fn of_paths(paths: &[PathBuf]) -> io::Result<Self> {
        let mut library = Self::default();
        for path in paths {
            let files = if path.is_dir() { files_of(path)? } else { vec![path.clone()] };
            if files.is_empty() {
                let what = format!("no .gguf file in {}", path.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
            for file in files {
                let read = library.add(&file);
                // A file that was named by hand must work; in a folder, one bad file is not the end.
                if let Err(error) = read {
                    let error = io::Error::new(error.kind(), format!("{}: {error}", file.display()));
                    if !path.is_dir() {
                        return Err(error);
                    }
                    log::warn(format_args!("left out {error}"));
                }
            }
        }
        library.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(library)
    }

    fn add(&mut self, file: &Path) -> io::Result<()> {
        let name = ModelName::of_file(file)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the file name gives no model name"))?;
        if self.entries.iter().any(|entry| entry.name == name) {
            log::warn(format_args!("left out {}: there is a model {name} already", file.display()));
            return Ok(());
        }
        self.entries.push(Arc::new(Entry::read(name, file)?));
        Ok(())
    }

    /// All models.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The model that a caller means; `Ok(None)` where there is none of that name.
    pub fn find(&self, asked: &str) -> Result<Option<Arc<Entry>>, NameFault> {
        let name = ModelName::parse(asked)?;
        Ok(self.entries.iter().find(|entry| entry.name == name).cloned())
    }
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
