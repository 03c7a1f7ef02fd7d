//! Request bodies in the chunked coding.

use bytes::{Bytes, BytesMut};

/// The coding is broken.
#[derive(Debug)]
pub(super) struct Broken;

/// Takes a whole chunked body, trailers included, off the buffer; `None` while it is not all there.
///
/// Starts over with each call: request bodies are small, and mostly come at once.
pub(super) fn take_chunked(buf: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
    let mut out = BytesMut::new();
    let mut at = 0;
    loop {
        let Some((line, next)) = line(buf, at) else { return Ok(None) };
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.ok_or(Broken)?;
        if size == 0 {
            let Some(end) = trailers(buf, next) else { return Ok(None) };
            drop(buf.split_to(end));
            return Ok(Some(out.freeze()));
        }
        let end = next.checked_add(size).ok_or(Broken)?;
        let Some(data) = buf.get(next..end) else { return Ok(None) };
        out.extend_from_slice(data);
        match line_end(buf, end) {
            Some(after) => at = after,
            None => return Ok(None),
        }
    }
}

/// A line without its end, and where the next one begins.
fn line(buf: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = buf.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    Some((rest.get(..end)?.trim_ascii_end(), at + end + 1))
}

fn line_end(buf: &[u8], at: usize) -> Option<usize> {
    line(buf, at).map(|(_, next)| next)
}

fn trailers(buf: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let (text, next) = line(buf, at)?;
        if text.is_empty() {
            return Some(next);
        }
        at = next;
    }
}
