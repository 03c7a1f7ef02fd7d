//! The chain: each row's code covers the row and the code before it.
//!
//! The key is a file of its own beside the store: whoever can only write to the store cannot make a chain that holds.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use super::{AuditRow, Begin};
use crate::store::{Folder, FolderError};

/// HMAC-SHA256 (RFC 2104).
pub type Mac = [u8; 32];

/// Why there is no key of the chain.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder, or the file in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It holds something else.
    #[error("{} holds no key of 64 hexadecimal digits", .0.display())]
    Content(PathBuf),
    /// No random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// The key of the chain.
#[derive(Clone)]
pub struct ChainKey(Hmac<Sha256>);

impl std::fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChainKey")
    }
}

impl ChainKey {
    /// In the data folder.
    pub const FILE: &'static str = "audit.key";

    /// The one of the data folder, made where there is none.
    pub fn of(path: &Path) -> Result<Self, KeyError> {
        let folder = Folder::make(path)?;
        match Self::found(&folder)? {
            Some(key) => Ok(key),
            None => Self::make(&folder),
        }
    }

    /// The one of the data folder.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        Self::found(&Folder::open(path)?)
    }

    fn found(folder: &Folder) -> Result<Option<Self>, KeyError> {
        let Some(text) = folder.read_secret(Self::FILE)? else { return Ok(None) };
        let bytes = from_hex(text.trim()).ok_or_else(|| KeyError::Content(folder.path().join(Self::FILE)))?;
        Ok(Some(Self::from_bytes(&bytes)))
    }

    fn make(folder: &Folder) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
        let draft = format!("{}.{}", Self::FILE, std::process::id());
        folder.write_draft(&draft, format!("{}\n", hex(&bytes)).as_bytes())?;
        // Another process that starts now may have been first: its key counts.
        if !folder.rename_new(&draft, Self::FILE)? {
            folder.remove(&draft)?;
        }
        Self::found(folder)?.ok_or_else(|| KeyError::Content(folder.path().join(Self::FILE)))
    }

    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Self {
        // A key shorter than a block is filled up with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        for (place, byte) in block.iter_mut().zip(bytes) {
            *place = *byte;
        }
        Self(<Hmac<Sha256> as KeyInit>::new(&block.into()))
    }

    fn mac(&self, parts: &[&[u8]]) -> Mac {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The code of a begin. Its columns are those of the first form, whatever rows have by now: it outlives the version that wrote it.
    pub fn begin(&self, boot: &str, begin: &Begin) -> Mac {
        let mut out = b"begin".to_vec();
        text(&mut out, Some(boot));
        canonical(1, &begin.clone().interrupted(), &mut out);
        self.mac(&[&out])
    }

    /// The code of a row behind the one before, in a segment of this form. `scratch` is kept from row to row.
    pub fn link(&self, form: u8, before: &Mac, row: &AuditRow, scratch: &mut Vec<u8>) -> Mac {
        scratch.clear();
        canonical(form, row, scratch);
        self.mac(&[before, scratch])
    }
}

/// The form of rows that are written now. 1: without `action`; 2: with it. A column more makes the next one; it stands in the signed facts
/// of each segment, so that older chains are read as they were written.
pub const FORM: u8 = 2;

/// A part of the chain: what one process wrote in one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// The form of its rows.
    pub form: u8,
    /// Seconds since 1970.
    pub started_at: i64,
    /// Seconds since 1970, once it is closed.
    pub ended_at: Option<i64>,
    /// The head of the segment before.
    pub before: Mac,
    /// The code of its last row; `before` while it has none.
    pub head: Mac,
    /// Its rows are gone by age.
    pub dropped: bool,
    /// How many it has, or had.
    pub rows: u64,
    /// Begins of its process that had no end when it was last written to.
    pub open: u64,
}

impl Segment {
    /// The code of the segment's own facts.
    pub fn mac(&self, key: &ChainKey) -> Mac {
        // The first form had no number.
        let mut out = if self.form < 2 { b"segment".to_vec() } else { b"segment, form ".to_vec() };
        if self.form >= 2 {
            out.push(self.form);
        }
        text(&mut out, Some(&self.name));
        number(&mut out, Some(self.started_at.cast_unsigned()));
        number(&mut out, self.ended_at.map(i64::cast_unsigned));
        out.extend_from_slice(&self.before);
        out.extend_from_slice(&self.head);
        number(&mut out, Some(u64::from(self.dropped)));
        number(&mut out, Some(self.rows));
        number(&mut out, Some(self.open));
        key.mac(&[&out])
    }
}

fn number(out: &mut Vec<u8>, value: Option<u64>) {
    // Absent is not zero.
    out.push(u8::from(value.is_some()));
    out.extend_from_slice(&value.unwrap_or(0).to_le_bytes());
}

fn text(out: &mut Vec<u8>, value: Option<&str>) {
    number(out, value.map(|value| value.len() as u64));
    out.extend_from_slice(value.unwrap_or("").as_bytes());
}

/// Every field with its length, in the order of the table: two rows never read the same.
fn canonical(form: u8, row: &AuditRow, out: &mut Vec<u8>) {
    number(out, Some(row.time.cast_unsigned()));
    number(out, Some(row.request_id));
    text(out, row.key_id.as_deref());
    match row.peer {
        None => out.push(0),
        Some(std::net::IpAddr::V4(ip)) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        Some(std::net::IpAddr::V6(ip)) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    for part in [Some(&*row.method), Some(&*row.route), row.model.as_deref(), Some(&*row.dialect)] {
        text(out, part);
    }
    for part in [
        Some(u64::from(row.stream)),
        Some(row.bytes_in),
        Some(row.bytes_out),
        row.prompt_tokens,
        row.output_tokens,
        Some(u64::from(row.estimated)),
        row.queue_ms,
        row.first_ms,
        Some(row.total_ms),
        row.gpu_ms,
        Some(u64::from(row.status)),
        Some(row.count),
    ] {
        number(out, part);
    }
    for part in [row.upstream.as_deref(), Some(&*row.ending), row.reason.as_deref()] {
        text(out, part);
    }
    // At the end, where what is absent may take no room: every row but an operator's is without it.
    if form >= 2 && row.action.is_some() {
        text(out, row.action.as_deref());
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
