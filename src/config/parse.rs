//! Values as people write them: durations, sizes, truth values.

use std::time::Duration;

/// `"90s"`, `"5m"`, `"1h30m"`, `"250ms"`, `"24h"`; a bare number is seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return within_reason(Duration::from_secs(seconds));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let tail = rest.get(digits..)?;
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let millis = match tail.get(..unit_len)?.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = tail.get(unit_len..)?;
    }
    if text.is_empty() { None } else { within_reason(total) }
}

/// Ten years: beyond it a clock is a mistake, and sums could overflow.
fn within_reason(d: Duration) -> Option<Duration> {
    (d <= Duration::from_hours(87600)).then_some(d)
}

/// `"20MiB"`, `"8MB"`, `"64KiB"`, `"512"`.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let factor = match text.get(digits..)?.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// What people write for yes and no.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in ["", "s", "5x", "-1s", "1.5s", "99999999999999d", "5s5"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("20MiB"), Some(20 << 20));
        assert_eq!(size("8MB"), Some(8_000_000));
        assert_eq!(size("512"), Some(512));
        for bad in ["", "MB", "-1", "1.5MB", "5 parsecs", "99999999999999999GB"] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }
}
