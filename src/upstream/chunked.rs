//! The chunked coding of an answer (RFC 9112 section 7.1), strict: no extensions, no spaces, no bare line feeds.

use super::body::BodyError;

const BROKEN: BodyError = BodyError::Protocol("the chunked coding is broken");
const MAX_TRAILERS: u16 = 8192;

/// Where in the coding the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    Size {
        size: u64,
        digits: u8,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    Trailer {
        total: u16,
    },
    TrailerLine {
        total: u16,
    },
    TrailerLf {
        total: u16,
    },
    EndLf,
    Ended,
}

impl Chunked {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Decodes `input` into `out`; the bytes used, fewer than given only at the end of the body.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            if *self == Self::Ended {
                break;
            }
            if let Self::Data { left } = *self {
                let rest = input.get(at..).unwrap_or_default();
                let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                out.extend_from_slice(rest.get(..n).unwrap_or_default());
                at += n;
                let left = left - n as u64;
                *self = if left == 0 { Self::DataCr } else { Self::Data { left } };
                continue;
            }
            *self = self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(self, byte: u8) -> Result<Self, BodyError> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
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
            _ => return Err(BROKEN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8], n: usize) -> Result<(Vec<u8>, Chunked, usize), BodyError> {
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
            b"0\r\nX: y\n\r\n",
            b"-1\r\n",
        ] {
            assert!(run(input, 1).is_err(), "{input:?}");
            assert!(run(input, 64).is_err(), "{input:?}");
        }
    }
}
