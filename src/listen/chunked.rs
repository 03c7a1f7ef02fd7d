//! The chunked coding (RFC 9112 section 7.1), strict: no extensions, no spaces, no bare line feeds.
//!
//! Requests and answers are read by this one decoder: what two readers could understand differently is refused on both sides.

/// The coding is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

const MAX_DIGITS: u8 = 15;
const MAX_TRAILERS: u16 = 8192;

/// Where in the coding the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunked {
    /// Within the size of a chunk.
    Size {
        /// So far.
        size: u64,
        /// How many digits it has.
        digits: u8,
    },
    /// Before the line feed behind a size.
    SizeLf {
        /// Of the chunk.
        size: u64,
    },
    /// Within a chunk.
    Data {
        /// Bytes to come.
        left: u64,
    },
    /// Before the CR behind a chunk.
    DataCr,
    /// Before the line feed behind a chunk.
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    Trailer {
        /// Bytes of trailers so far.
        total: u16,
    },
    /// Within a trailer line.
    TrailerLine {
        /// Bytes of trailers so far.
        total: u16,
    },
    /// Before the line feed behind a trailer line.
    TrailerLf {
        /// Bytes of trailers so far.
        total: u16,
    },
    /// Before the last line feed.
    EndLf,
    /// Behind it.
    Ended,
}

impl Chunked {
    /// At the first size.
    pub const START: Self = Self::Size { size: 0, digits: 0 };

    /// Decodes `input` into `out`; the bytes used, fewer than given only at the end of the body.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Broken> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match *self {
                Self::Ended => break,
                Self::Data { left } => {
                    let rest = input.get(at..).unwrap_or_default();
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    out.extend_from_slice(rest.get(..n).unwrap_or_default());
                    at += n;
                    let left = left - n as u64;
                    *self = if left == 0 { Self::DataCr } else { Self::Data { left } };
                }
                Self::Size { digits: 0, .. } => match whole_size(input, at) {
                    Some((0, next)) => (*self, at) = (Self::Trailer { total: 0 }, next),
                    Some((left, next)) => (*self, at) = (Self::Data { left }, next),
                    None => (*self, at) = (self.step(byte)?, at + 1),
                },
                Self::DataCr if input.get(at..at + 2) == Some(b"\r\n") => (*self, at) = (Self::START, at + 2),
                _ => (*self, at) = (self.step(byte)?, at + 1),
            }
        }
        Ok(at)
    }

    /// By the letter: what was cut between two reads, and everything that is not as usual.
    fn step(self, byte: u8) -> Result<Self, Broken> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < MAX_DIGITS => {
                let digit = if byte.is_ascii_digit() { byte - b'0' } else { (byte | 0x20) - b'a' + 10 };
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b'\r') => Self::SizeLf { size },
            (Self::SizeLf { size: 0 }, b'\n') => Self::Trailer { total: 0 },
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::Trailer { .. }, b'\r') => Self::EndLf,
            (Self::EndLf, b'\n') => Self::Ended,
            (Self::TrailerLine { total }, b'\r') => Self::TrailerLf { total },
            (Self::TrailerLf { total }, b'\n') => Self::Trailer { total },
            (Self::Trailer { total } | Self::TrailerLine { total }, 0x20..) if total < MAX_TRAILERS => {
                Self::TrailerLine { total: total + 1 }
            }
            _ => return Err(Broken),
        })
    }
}

/// A chunk's size with its CRLF, where all of it is there: the common case at once.
fn whole_size(input: &[u8], from: usize) -> Option<(u64, usize)> {
    let (mut size, mut at) = (0, from);
    while let Some(digit) = input.get(at).and_then(|&byte| char::from(byte).to_digit(16)) {
        size = size << 4 | u64::from(digit);
        at += 1;
        if at > from + usize::from(MAX_DIGITS) {
            return None;
        }
    }
    (at > from && input.get(at..at + 2) == Some(b"\r\n")).then_some((size, at + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8], n: usize) -> Result<(Vec<u8>, Chunked, usize), Broken> {
        let (mut state, mut out, mut used) = (Chunked::START, Vec::new(), 0);
        for piece in input.chunks(n) {
            used += state.decode(piece, &mut out)?;
        }
        Ok((out, state, used))
    }

    #[test]
    fn any_split_decodes_alike() {
        let input = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
        for n in 1..=input.len() {
            let (out, state, used) = run(input, n).unwrap();
            assert_eq!((&out[..], state, used), (&b"hello0123456789"[..], Chunked::Ended, input.len()));
        }
        let (_, state, used) = run(b"0\r\n\r\nHTTP/1.1 200 OK", 64).unwrap();
        assert_eq!((state, used), (Chunked::Ended, 5), "bytes behind the end are not used");
    }

    #[test]
    fn odd_codings_are_refused() {
        for input in [
            &b"5;x\r\nhello"[..],
            b"5\nhello",
            b"0x5\r\n",
            b"+5\r\n",
            b" 5\r\n",
            b"\r\n",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"FFFFFFFFFFFFFFFFF\r\n",
            b"5 \r\n",
            b"0000000000000000000005\r\nhello\r\n",
            b"G\r\n",
            b"0\r\nX: y\n\r\n",
            b"-1\r\n",
        ] {
            assert!(run(input, 1).is_err(), "{input:?}");
            assert!(run(input, 64).is_err(), "{input:?}");
        }
        let endless = [b"0\r\n", "X: y\r\n".repeat(3000).as_bytes()].concat();
        assert!(run(&endless, 1000).is_err(), "trailers without end");
    }
}
