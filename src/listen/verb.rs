//! The method of a request that may never become one, so that its refusal is framed right.

use super::field::{find, is_token_byte};

/// What is known of a request's method, as far as the answer's body depends on it: none may follow the head of an answer to `HEAD` (RFC 9110
/// section 9.3.2), or whoever stands in front takes it for the next answer's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verb {
    /// It could not be read: an empty body is right whatever it was.
    #[default]
    Unread,
    /// `HEAD`.
    Head,
    /// Another.
    Other,
}

impl Verb {
    /// By the first bytes of a request. In any case of its letters: who stands in front may forgive more than we do.
    pub(super) fn by(bytes: &[u8]) -> Self {
        if bytes.starts_with(b"POST ") || bytes.starts_with(b"GET ") {
            return Self::Other;
        }
        let line = bytes.get(..bytes.len().min(64)).unwrap_or_default();
        match find(b' ', line, 0).and_then(|end| line.get(..end)) {
            Some(method) if method.eq_ignore_ascii_case(b"HEAD") => Self::Head,
            Some(method @ [_, ..]) if method.iter().all(|&b| is_token_byte(b)) => Self::Other,
            _ => Self::Unread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_known_by_its_first_bytes_alone() {
        for (bytes, verb) in [
            ("HEAD / HTTP/1.1", Verb::Head),
            ("head ", Verb::Head),
            ("GET / HT", Verb::Other),
            ("DELETE /x", Verb::Other),
            ("HEADER /", Verb::Other),
            ("HEAD", Verb::Unread),
            ("HEAD\t/ HTTP/1.1", Verb::Unread),
            ("\r\nHEAD /", Verb::Unread),
            (" HEAD /", Verb::Unread),
            ("\u{16}\u{3}\u{1} ", Verb::Unread),
            ("", Verb::Unread),
        ] {
            assert_eq!(Verb::by(bytes.as_bytes()), verb, "{bytes:?}");
        }
        assert_eq!(Verb::by(&[b'x'; 1_000]), Verb::Unread);
    }
}
