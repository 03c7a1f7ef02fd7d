//! Log lines on stderr: one line a call, never a prompt or an answer.

use std::fmt::Display;
use std::io::Write as _;

/// Something worth knowing.
pub fn info(line: impl Display) {
    write("INFO", &line);
}

/// Something the operator should look at.
pub fn warn(line: impl Display) {
    write("WARN", &line);
}

fn write(level: &str, line: &dyn Display) {
    // A closed stderr must not end the server.
    drop(writeln!(std::io::stderr().lock(), "{level} {line}"));
}
