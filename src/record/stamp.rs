//! Times as people and parsers read them, from the system's clock in UTC.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// `2026-01-17 10:33:05`
pub fn plain(out: &mut Vec<u8>) {
    with_second(b' ', |date, _| out.extend_from_slice(date));
}

/// `2026-01-17T10:33:05.123456789Z` (RFC 3339, as Ollama writes it).
pub fn rfc3339(out: &mut Vec<u8>) {
    with_second(b'T', |date, nanos| {
        out.extend_from_slice(date);
        // Writing to a vector cannot fail.
        let _written = write!(out, ".{nanos:09}Z");
    });
}

/// The date and time of the present second, kept per thread: the calendar is done once a second, not once a line.
fn with_second(between: u8, write: impl FnOnce(&[u8], u32)) {
    thread_local! {
        static SECOND: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            *text = date_time(since);
        }
        if let Some(gap) = text.get_mut(10) {
            *gap = between;
        }
        write(text, since.subsec_nanos());
    });
}

fn date_time(since: Duration) -> Vec<u8> {
    let at = OffsetDateTime::UNIX_EPOCH + since;
    let date = at.date();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
        .into_bytes()
}

/// Seconds since 1970 as RFC 3339, `2026-01-17T10:33:05Z`.
pub fn of(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let mut text = String::from_utf8(date_time(since)).unwrap_or_default();
    text.replace_range(10..11, "T");
    text.push('Z');
    text
}

/// The first second of a day as `2026-01-17` names it, in UTC.
pub fn start_of(day: &str) -> Option<i64> {
    let mut parts = day.split('-');
    let (year, month, date) = (parts.next()?, parts.next()?, parts.next()?);
    if day.len() != 10 || parts.next().is_some() {
        return None;
    }
    let month = time::Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, date.parse().ok()?).ok()?;
    Some(date.midnight().assume_utc().unix_timestamp())
}

/// The day of a moment, `2026-01-17`, UTC.
pub fn day(seconds: i64) -> String {
    let mut text = of(seconds);
    text.truncate(10);
    text
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
        assert_eq!(start_of("2026-01-17").map(of).as_deref(), Some("2026-01-17T00:00:00Z"));
        assert!(
            ["", "2026-1-17", "2026-13-01", "2026-02-30", "7d"].iter().all(|day| start_of(day).is_none())
        );
        assert_eq!((of(1_768_645_985), day(0)), ("2026-01-17T10:33:05Z".to_owned(), "1970-01-01".to_owned()));
    }
}
