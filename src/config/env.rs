//! The environment: every name that is read stands here or follows the rule in `keys`.
//!
//! A `PORTCULLIS_*` name that is none of ours is a fault; `PORTCULLIS_<SECTION>_<KEY>` wins over the older names.

use std::collections::BTreeMap;

use super::fault::Faults;
use super::keys::{KEYS, Kind};
use super::raw::{Origin, Raw, distance};

/// A snapshot of the process environment, so that tests need none. Prints its names alone: some values are secrets.
#[derive(Clone, Default)]
pub struct Env(pub BTreeMap<String, String>);

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where Ollama's clients are pointed: the hint for the upstream when `OLLAMA_LOCAL_URL` is absent.
pub const OLLAMA_HOST: &str = "OLLAMA_HOST";
/// Ollama's slots per model: the default of `upstream.slots`.
pub const OLLAMA_NUM_PARALLEL: &str = "OLLAMA_NUM_PARALLEL";
/// The configuration file, as `--config`.
pub const CONFIG: &str = "PORTCULLIS_CONFIG";

impl Env {
    /// The environment of this process. A value that is not UTF-8 is read with replacement characters: it is then refused
    /// where it is used.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .map(|(k, v)| (k.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()))
                .collect(),
        )
    }

    /// A value, as it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A folder from the XDG variables, else below the home folder.
    pub fn user_folder(&self, variable: &str, below_home: &str) -> Option<std::path::PathBuf> {
        let set = self.get(variable).filter(|value| value.starts_with('/'));
        set.map(std::path::PathBuf::from).or_else(|| {
            self.get("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| std::path::Path::new(home).join(below_home))
        })
    }

    /// Reads every key's names into `raw`.
    pub fn read_into(&self, raw: &mut Raw, faults: &mut Faults) {
        let mut known = vec![CONFIG.to_owned()];
        for key in KEYS {
            let name = key.env_name();
            let names = || std::iter::once(name.as_str()).chain(key.older.iter().copied());
            if key.kind == Kind::Secret {
                known.push(format!("{name}_FILE"));
            }
            // The older names first, so that ours overwrite them, whether it is a variable or a file.
            for name in names().collect::<Vec<_>>().into_iter().rev() {
                if key.kind == Kind::Secret {
                    self.read_secret_file(key.name, &format!("{name}_FILE"), raw, faults);
                    if self.get(&format!("{name}_FILE")).is_some_and(|path| !path.is_empty()) {
                        if self.get(name).is_some_and(|value| !value.is_empty()) {
                            faults.add(key.name, name, format!("and {name}_FILE are both set; keep one"));
                        }
                        continue;
                    }
                }
                if let Some(value) = self.get(name) {
                    // An empty variable is an unset one, but for the key: there it asks for public mode.
                    if !value.is_empty() || key.name == "keys.api_key" {
                        raw.set(key.name, value, Origin::Env(name.to_owned()));
                    }
                }
            }
            known.push(name);
        }
        for name in self.0.keys().filter(|name| name.starts_with("PORTCULLIS_") && !known.contains(name)) {
            let near = known.iter().min_by_key(|k| distance(k, name)).filter(|k| distance(k, name) <= 3);
            let hint = near.map_or_else(String::new, |k| format!("; did you mean {k}?"));
            faults.add(name.clone(), "", format!("unknown setting{hint}"));
        }
    }

    /// The files that secrets are read from.
    pub fn secret_files(&self) -> Vec<std::path::PathBuf> {
        let secrets = KEYS.iter().filter(|key| key.kind == Kind::Secret);
        let names = secrets
            .flat_map(|key| std::iter::once(key.env_name()).chain(key.older.iter().map(ToString::to_string)));
        let path =
            |name: String| self.get(&format!("{name}_FILE")).filter(|path| !path.is_empty()).map(Into::into);
        names.filter_map(path).collect()
    }

    fn read_secret_file(&self, key: &str, variable: &str, raw: &mut Raw, faults: &mut Faults) {
        let Some(path) = self.get(variable).filter(|path| !path.is_empty()) else { return };
        match std::fs::read_to_string(path) {
            // Only an empty variable asks for public mode: an empty file is an accident.
            Ok(text) if text.trim().is_empty() => faults.add(key, variable, "the file is empty"),
            // A trailing newline is the editor's, not the secret's.
            Ok(text) => raw.set(key, text.trim_end_matches(['\r', '\n']), Origin::Env(variable.to_owned())),
            Err(error) => faults.add(key, variable, format!("cannot read the file: {}", error.kind())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Raw, Faults) {
        let env = Env(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let (mut raw, mut faults) = (Raw::default(), Faults::default());
        env.read_into(&mut raw, &mut faults);
        (raw, faults)
    }

    #[test]
    fn ours_win_over_the_older_names() {
        let (raw, _) = read(&[("PORT", "1"), ("PORTCULLIS_LISTEN_PORT", "2"), ("OLLAMA_MODEL", "alpha")]);
        assert_eq!(raw.get("listen.port").unwrap().0, "2");
        assert_eq!(raw.get("models.default").unwrap().0, "alpha");
    }

    #[test]
    fn empty_key_is_kept_and_empty_port_is_not() {
        let (raw, _) = read(&[("OLLAMA_API_KEY", ""), ("PORT", "")]);
        assert_eq!(raw.get("keys.api_key").unwrap().0, "");
        assert!(raw.get("listen.port").is_none());
    }

    #[test]
    fn a_key_file_is_neither_overruled_nor_empty() {
        let file = |name: &str, text: &str| {
            let path = std::env::temp_dir().join(format!("portcullis-env-{name}-{}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (full, empty) = (file("full", "from-the-file\n"), file("empty", "\n"));
        let (raw, faults) = read(&[("OLLAMA_API_KEY", ""), ("PORTCULLIS_KEYS_API_KEY_FILE", &full)]);
        assert_eq!((raw.get("keys.api_key").unwrap().0, faults.0.len()), ("from-the-file", 0));
        let (_, faults) = read(&[("OLLAMA_API_KEY_FILE", &empty)]);
        assert!(faults.to_string().contains("the file is empty"), "{faults}");
        let (_, faults) = read(&[("OLLAMA_API_KEY", "a"), ("OLLAMA_API_KEY_FILE", &full)]);
        assert!(faults.to_string().contains("both set"), "{faults}");
        for path in [full, empty] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn no_secret_is_printed_by_accident() {
        let (raw, _) = read(&[("OLLAMA_API_KEY", "hunter2")]);
        let env = Env([("OLLAMA_API_KEY".to_owned(), "hunter2".to_owned())].into());
        let printed = format!("{raw:?} {env:?}");
        assert!(printed.contains("OLLAMA_API_KEY") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn unknown_names_are_faults() {
        let (_, faults) = read(&[("PORTCULLIS_LISTEN_PROT", "1"), ("PORTCULLIS_X", "1"), ("OTHER", "1")]);
        assert_eq!(faults.0.len(), 2);
        assert!(faults.to_string().contains("did you mean PORTCULLIS_LISTEN_PORT?"));
    }
}
