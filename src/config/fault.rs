//! What is wrong with a configuration: all of it at once, each with the key, where it was written, and what is allowed.

use std::fmt;

/// One fault. The value is shown only where it is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `listen.port`, or the name as it was written when it is unknown.
    pub key: String,
    /// `PORT`, `portcullis.toml`, `--port`…
    pub origin: String,
    /// What was found and what is allowed instead.
    pub message: String,
}

impl Fault {
    /// Is it the whole file's, so that nothing of it is known?
    pub fn is_of_file(&self) -> bool {
        self.message.starts_with(NO_TOML) || self.message.contains(UNREADABLE)
    }
}

/// How the message begins where a file is no TOML.
pub(super) const NO_TOML: &str = "not valid TOML";
/// What stands in it where the file cannot be read.
pub(super) const UNREADABLE: &str = "cannot be read";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin.is_empty() || self.origin == self.key {
            write!(f, "{}: {}", self.key, self.message)
        } else {
            write!(f, "{} (from {}): {}", self.key, self.origin, self.message)
        }
    }
}

/// Every fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes one fault.
    pub fn add(&mut self, key: impl Into<String>, origin: impl fmt::Display, message: impl Into<String>) {
        self.0.push(Fault { key: key.into(), origin: origin.to_string(), message: message.into() });
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
