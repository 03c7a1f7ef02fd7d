//! Columns for a terminal: as wide as their widest cell, numbers to the right.

use std::borrow::Cow;

use super::say;
use crate::record::escape;

/// A text from a store, which somebody else may have written: what a terminal would obey is shown, and not sent.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let escaped = escape(text);
    // Quotes and backslashes are fit to be seen.
    if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        escaped.to_string().into()
    } else {
        text.into()
    }
}

/// Prints rows under their heads.
pub(super) fn print(heads: &[&str], rows: &[Vec<String>]) {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(heads.get(column).map_or(0, |head| head.len()))
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if is_number(cell) { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
            line.extend([before, cell, after, "  "]);
        }
        line.trim_end().to_owned()
    };
    say(line(&mut heads.iter().copied()));
    for row in &rows {
        say(line(&mut row.iter().map(AsRef::as_ref)));
    }
}
