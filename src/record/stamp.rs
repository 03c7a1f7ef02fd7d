//! Times as people and parsers read them, from the system's clock in UTC.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// `2026-01-17 10:33:05`
pub fn plain(out: &mut Vec<u8>) {
    let at = now();
    let date = at.date();
    // Writing to a vector cannot fail.
    let _written = write!(
        out,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
}

/// `2026-01-17T10:33:05.123456789Z` (RFC 3339, as Ollama writes it).
pub fn rfc3339(out: &mut Vec<u8>) {
    let at = now();
    let date = at.date();
    let _written = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.nanosecond()
    );
}

fn now() -> OffsetDateTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    OffsetDateTime::UNIX_EPOCH + since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        plain(&mut a);
        rfc3339(&mut b);
        assert_eq!((a.len(), b.len()), (19, 30));
        assert_eq!(a[..10], b[..10]);
    }
}
