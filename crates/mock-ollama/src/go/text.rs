//! Go's ways of writing: JSON strings, quoted bytes, times. Pure functions over bytes.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Appends `text` as a JSON string, with the escapes of Go's encoder (`<`, `>`, `&` and the two line separators included).
pub(crate) fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        let escape = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '<' => "\\u003c",
            '>' => "\\u003e",
            '&' => "\\u0026",
            '\u{2028}' => "\\u2028",
            '\u{2029}' => "\\u2029",
            '\0'..='\u{1f}' => "",
            _ => continue,
        };
        out.extend_from_slice(text.get(plain..at).unwrap_or_default().as_bytes());
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
        } else {
            out.extend_from_slice(escape.as_bytes());
        }
        plain = at + character.len_utf8();
    }
    out.extend_from_slice(text.get(plain..).unwrap_or_default().as_bytes());
    out.push(b'"');
}

/// `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    push_json(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// A byte in single quotes, as Go's scanner shows it (each byte is taken for one character).
pub(crate) fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => "'\\\\'".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        b'\r' => "'\\r'".to_owned(),
        b'\t' => "'\\t'".to_owned(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{:04x}'", u32::from(byte)),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// Seconds and nanoseconds since 1970.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Year, month, day of a day number since 1970 (the civil calendar, after Howard Hinnant).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A time as in `created_at`: RFC 3339 with nanoseconds, UTC.
pub(crate) fn rfc3339(at: Duration) -> String {
    let seconds = at.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(30);
    write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}").ok();
    write!(text, ".{:09}Z", at.subsec_nanos()).ok();
    text
}

/// A time as in the `Date` header.
pub(crate) fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let pick = |names: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default()
    };
    let (weekday, month) = (pick(&DAYS, days % 7), pick(&MONTHS, month - 1));
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_as_go_does() {
        let at = Duration::new(1_795_334_235, 7);
        assert_eq!(http_date(at.as_secs()), "Sun, 22 Nov 2026 07:57:15 GMT");
        assert_eq!(rfc3339(at), "2026-11-22T07:57:15.000000007Z");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }

    #[test]
    fn escapes_as_go_does() {
        assert_eq!(json_string("<a & \"b\">\u{1}é"), "\"\\u003ca \\u0026 \\\"b\\\"\\u003e\\u0001é\"");
        assert_eq!(quote_byte(0xff), "'ÿ'");
        assert_eq!(quote_byte(0x1f), "'\\x1f'");
    }
}
