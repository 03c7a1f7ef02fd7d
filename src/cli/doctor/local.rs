//! What lies on this machine: the data folder, the configuration file, the operator's key, the ops listener, the tunnel's configuration.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::paths::listed;
use crate::cli::{banner, tunnel};
use crate::config::env::Env;
use crate::config::keys::{KEYS, Kind};
use crate::config::{Config, Faults, Keys, Raw};

/// The generated key and the key of the audit's chain: secrets in clear.
const SECRETS: [&str; 2] = ["generated.key", "audit.key"];
/// A key of so many characters cannot be guessed.
const LONG: usize = 20;

pub(super) fn data_folder(folder: &Path) -> Finding {
    const CHECK: &str = "data-folder";
    let Ok(meta) = fs::metadata(folder) else {
        let why = format!("{} is not there, or not ours to look at", folder.display());
        return Finding::not_run(
            CHECK,
            why,
            "run the doctor as the gateway's user, with its configuration (data.dir)",
        );
    };
    let (mode, us) = (meta.mode() & 0o777, rustix::process::geteuid().as_raw());
    let open = mode & 0o077 != 0;
    let mut bad = Vec::new();
    if mode & 0o022 != 0 {
        bad.push(format!("others may write in {} (mode {mode:o})", folder.display()));
    }
    for (name, file) in files(folder) {
        let loose = file.mode() & 0o077;
        // A closed folder keeps everybody from what is in it; the gateway itself refuses a key that others could read.
        if loose != 0 && (open || SECRETS.contains(&name.as_str())) {
            bad.push(format!("others may use {name} (mode {:o})", file.mode() & 0o777));
        }
        if file.uid() != meta.uid() {
            bad.push(format!("{name} belongs to another user than its folder (uid {})", file.uid()));
        }
    }
    let fix = format!(
        "chmod 700 {0} && find {0} -type f -exec chmod 600 {{}} +; all of it owned by the gateway's user",
        folder.display()
    );
    if !bad.is_empty() {
        return Finding::serious(CHECK, listed(&bad), fix);
    }
    if meta.uid() != us && us != 0 {
        let seen = format!("{} belongs to another user (uid {})", folder.display(), meta.uid());
        return Finding::note(CHECK, seen, "run the doctor as the gateway's user");
    }
    if open {
        let seen = format!(
            "others may look into {} (mode {mode:o}); its files are closed to them",
            folder.display()
        );
        return Finding::note(CHECK, seen, format!("chmod 700 {}", folder.display()));
    }
    Finding::ok(CHECK, format!("{} and its files are their owner's alone", folder.display()))
}

/// Plain files of the folder, by name.
fn files(folder: &Path) -> Vec<(String, Metadata)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(Metadata::is_file)?;
            Some((entry.file_name().to_string_lossy().into_owned(), meta))
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

pub(super) fn config_file(file: Option<&Path>) -> Finding {
    const CHECK: &str = "config-file";
    let Some(file) = file else { return Finding::ok(CHECK, "there is none") };
    let (Ok(meta), Ok(text)) = (fs::metadata(file), fs::read_to_string(file)) else {
        return Finding::not_run(
            CHECK,
            format!("cannot read {}", file.display()),
            "run the doctor as the gateway's user",
        );
    };
    let (mut raw, mode) = (Raw::default(), meta.mode() & 0o777);
    raw.read_toml(&text, file, &mut Faults::default());
    let secrets = KEYS.iter().filter(|key| key.kind == Kind::Secret);
    let secret =
        secrets.map(|key| key.name).find(|name| raw.get(name).is_some_and(|(value, _)| !value.is_empty()));
    let shown = file.display();
    if mode & 0o022 != 0 {
        let seen = format!("others may write {shown} (mode {mode:o}): they decide who gets in");
        return Finding::serious(CHECK, seen, format!("chmod 600 {shown}"));
    }
    match secret {
        Some(name) if mode & 0o044 != 0 => Finding::serious(
            CHECK,
            format!("{shown} holds {name}, and others may read it (mode {mode:o})"),
            format!(
                "chmod 600 {shown}, or keep the secret in a file of its own ({name} has a _FILE variable)"
            ),
        ),
        _ => Finding::ok(CHECK, format!("{shown} (mode {mode:o})")),
    }
}

/// The files that secrets are read from, and the key of the certificate. A group may read them: that is how services share them.
pub(super) fn secret_files(config: &Config, env: &Env) -> Finding {
    const CHECK: &str = "secret-files";
    let mut files = env.secret_files();
    files.extend(config.listen.tls.iter().map(|tls| tls.key.clone()));
    if files.is_empty() {
        return Finding::ok(CHECK, "there are none");
    }
    for file in &files {
        let shown = file.display();
        match fs::metadata(file).map(|meta| meta.mode() & 0o777) {
            Err(error) => {
                let seen = format!("cannot look at {shown}: {}", error.kind());
                return Finding::not_run(CHECK, seen, "run the doctor as the gateway's user");
            }
            Ok(mode) if mode & 0o027 != 0 => {
                let what = if mode & 0o004 == 0 { "change" } else { "read" };
                let seen = format!("others may {what} {shown} (mode {mode:o})");
                return Finding::serious(CHECK, seen, format!("chmod 600 {shown}"));
            }
            Ok(_) => {}
        }
    }
    Finding::ok(CHECK, format!("{} files with secrets are closed to others", files.len()))
}

pub(super) fn key_strength(keys: &Keys) -> Finding {
    const CHECK: &str = "key-strength";
    match keys {
        Keys::Public => {
            Finding::not_run(CHECK, "public mode: there is no key", "unset OLLAMA_API_KEY to have one made")
        }
        Keys::Generated => Finding::ok(CHECK, "keys are made here, of 256 random bits"),
        Keys::Given(keys) if keys.iter().any(|key| key.len() < LONG) => Finding::note(
            CHECK,
            format!("a key in OLLAMA_API_KEY has fewer than {LONG} characters and can be guessed"),
            "unset OLLAMA_API_KEY (a key is made), or: openssl rand -hex 24",
        ),
        Keys::Given(_) => Finding::ok(CHECK, format!("the given keys have {LONG} characters and more")),
    }
}

/// Whose key is it? The name is Ollama's, too.
pub(super) fn key_origin(config: &Config) -> Finding {
    const CHECK: &str = "key-origin";
    if banner::may_be_inherited(config) {
        return Finding::note(CHECK, banner::INHERITED, banner::KEEP_APART);
    }
    Finding::ok(CHECK, "no key is taken from a variable that other programs read")
}

pub(super) fn operators(config: &Config) -> Finding {
    const CHECK: &str = "operators";
    match config.ops.address {
        None => Finding::ok(CHECK, "the ops listener is off"),
        Some(at) if at.ip().is_loopback() => {
            Finding::ok(CHECK, format!("the ops listener stays on this machine ({at})"))
        }
        Some(at) => Finding::note(
            CHECK,
            format!(
                "the ops listener is on {at}: metrics are there for whoever reaches it, and the admin API for admin keys"
            ),
            "ops.address = \"127.0.0.1\", or a firewall that lets only operators through",
        ),
    }
}

/// The tunnel's configuration: the file that was named, else those in the usual places. The error: a named one cannot be read.
pub(super) fn tunnels(config: &Config, named: Option<&Path>, env: &Env) -> Result<Vec<Finding>, String> {
    const CHECK: &str = "tunnel";
    let files: Vec<PathBuf> = named.map_or_else(|| usual(env), |file| vec![file.to_owned()]);
    if files.is_empty() {
        let how = "portcullis doctor --tunnel FILE; a tunnel that is configured in Cloudflare's dashboard: look there";
        return Ok(vec![Finding::not_run(CHECK, "no cloudflared configuration was found", how)]);
    }
    let ports = tunnel::closed(config);
    let mut all = Vec::new();
    for file in files {
        match tunnel::read(&file).and_then(|text| tunnel::check(&text, &ports)) {
            Err(why) if named.is_some() => return Err(format!("{}: {why}", file.display())),
            Err(why) => all.push(Finding::not_run(
                CHECK,
                why,
                "portcullis tunnel check FILE, as a user who may read it",
            )),
            Ok(found) if found.is_empty() => {
                all.push(Finding::ok(CHECK, format!("{}: no rule leads around the gateway", file.display())));
            }
            Ok(found) => all.extend(found.into_iter().map(|one| {
                Finding::serious(CHECK, format!("{}:{}: {}", file.display(), one.line, one.what), one.fix)
            })),
        }
    }
    Ok(all)
}

fn usual(env: &Env) -> Vec<PathBuf> {
    let home = env.get("HOME").map(|home| Path::new(home).join(".cloudflared"));
    let folders = [home, Some("/etc/cloudflared".into()), Some("/usr/local/etc/cloudflared".into())];
    let files = folders
        .into_iter()
        .flatten()
        .flat_map(|folder| [folder.join("config.yml"), folder.join("config.yaml")]);
    files.filter(|file| file.exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_use_is_named() {
        let folder = std::env::temp_dir().join(format!("portcullis-doctor-data-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (store, key) = (folder.join("portcullis.db"), folder.join("generated.key"));
        for file in [&store, &key] {
            fs::write(file, "x").unwrap();
        }
        for (folder_mode, store_mode, key_mode, expected, words) in [
            (0o700, 0o600, 0o600, Severity::Ok, "alone"),
            (0o755, 0o600, 0o600, Severity::Note, "look into"),
            (0o777, 0o600, 0o600, Severity::Serious, "write in"),
            (0o755, 0o644, 0o600, Severity::Serious, "portcullis.db"),
            (0o700, 0o644, 0o600, Severity::Ok, "alone"),
            (0o700, 0o600, 0o640, Severity::Serious, "generated.key"),
        ] {
            mode(&folder, folder_mode);
            mode(&store, store_mode);
            mode(&key, key_mode);
            let finding = data_folder(&folder);
            assert_eq!(finding.severity, expected, "{finding:?}");
            assert!(finding.seen.contains(words), "{finding:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(data_folder(&folder).severity, Severity::NotRun);
    }

    #[test]
    fn a_file_that_a_secret_is_read_from_is_closed() {
        let file = std::env::temp_dir().join(format!("portcullis-doctor-secret-{}", std::process::id()));
        fs::write(&file, "a-secret-of-mine-of-some-length").unwrap();
        let env = Env([("OLLAMA_API_KEY_FILE".to_owned(), file.display().to_string())].into());
        let config = Config::load(None, &env, |_, _| {}).unwrap();
        for (file_mode, expected) in [
            (0o600, Severity::Ok),
            (0o640, Severity::Ok),
            (0o644, Severity::Serious),
            (0o620, Severity::Serious),
        ] {
            mode(&file, file_mode);
            let finding = secret_files(&config, &env);
            assert_eq!(finding.severity, expected, "{finding:?}");
            assert!(!format!("{finding:?}").contains("of-some-length"));
        }
        fs::remove_file(file).unwrap();
        assert_eq!(secret_files(&config, &env).severity, Severity::NotRun);
    }

    #[test]
    fn a_secret_in_a_file_that_others_read_is_named_and_not_shown() {
        let file = std::env::temp_dir().join(format!("portcullis-doctor-{}.toml", std::process::id()));
        for (text, file_mode, expected) in [
            ("[keys]\napi_key = \"a-secret-of-mine\"\n", 0o644, Severity::Serious),
            ("[keys]\napi_key = \"a-secret-of-mine\"\n", 0o600, Severity::Ok),
            ("[listen]\nport = 9\n", 0o644, Severity::Ok),
            ("[listen]\nport = 9\n", 0o666, Severity::Serious),
        ] {
            fs::write(&file, text).unwrap();
            mode(&file, file_mode);
            let finding = config_file(Some(&file));
            assert_eq!(finding.severity, expected, "{text} {finding:?}");
            assert!(!format!("{finding:?}").contains("a-secret-of-mine"));
        }
        fs::remove_file(file).unwrap();
    }
}
