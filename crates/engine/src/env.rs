//! The environment, read here and nowhere else.
//!
//! Takes the variables of pip and of the XDG base directories; an empty variable counts as unset.

use std::ffi::OsString;
use std::path::PathBuf;

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder for what can be fetched again: `$XDG_CACHE_HOME/portcullis`, else `~/.cache/portcullis`.
///
/// `None` where neither variable is set: then nothing may be stored.
pub fn cache_folder() -> Option<PathBuf> {
    let base = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("portcullis"))
}

/// The package index that `PIP_INDEX_URL` names.
pub fn pip_index_url() -> Option<String> {
    set("PIP_INDEX_URL").and_then(|value| value.into_string().ok())
}

/// Files in which pip looks for its configuration, the strongest last.
pub fn pip_config_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/pip.conf")];
    if let Some(home) = set("HOME").map(PathBuf::from) {
        files.push(home.join(".pip/pip.conf"));
        files.push(home.join(".config/pip/pip.conf"));
    }
    if let Some(config) = set("XDG_CONFIG_HOME") {
        files.push(PathBuf::from(config).join("pip/pip.conf"));
    }
    files.extend(set("PIP_CONFIG_FILE").map(PathBuf::from));
    files
}
