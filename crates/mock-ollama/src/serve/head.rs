//! Request heads, read as leniently and refused in the same words as by Go's server.
//!
//! `httparse` does the work; only what it refuses is looked at again with Go's eyes (folded lines, versions like 1.2, a space before
//! the colon). Promises the recorded cases; does not enforce Go's cap of 1 MiB.

use crate::api::reply::{Abrupt, Whole};

/// A request's head.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts of a head")]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) http10: bool,
    /// Without a transfer coding.
    pub(super) length: usize,
    pub(super) chunked: bool,
    pub(super) keep_alive: bool,
    /// The caller waits for `100 Continue`.
    pub(super) expects: bool,
}

/// What the buffer begins with.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Not a whole head yet.
    Partial,
    /// A head of so many bytes.
    Head(Head, usize),
    /// Refused from below the router.
    Refused(Abrupt),
    /// Refused by the server, in full form.
    Answered(Whole),
}

const MOST_HEADERS: usize = 128;

pub(super) fn parse(buf: &[u8]) -> Parsed {
    match plain(buf) {
        Ok(parsed) => parsed,
        Err(_) => odd(buf),
    }
}

fn plain(buf: &[u8]) -> Result<Parsed, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(buf)? else { return Ok(Parsed::Partial) };
    let field = |field: &httparse::Header<'_>| {
        (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned())
    };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: request.headers.iter().map(field).collect(),
        http10: request.version == Some(0),
        ..Head::default()
    };
    Ok(head.checked(length))
}

/// What `httparse` refuses and Go may not.
fn odd(buf: &[u8]) -> Parsed {
    let text = String::from_utf8_lossy(buf);
    let Some((line, _)) = text.split_once('\n') else { return Parsed::Partial };
    let version = line.trim_end().rsplit(' ').next().unwrap_or_default();
    let Some(number) = version.strip_prefix("HTTP/") else { return Parsed::Refused(Abrupt::BAD_REQUEST) };
    if line.starts_with("PRI * HTTP/2.0") {
        return Parsed::Answered(Whole::empty(400).with("Connection", "close"));
    }
    if !number.starts_with("1.") {
        const LINE: &str = "505 HTTP Version Not Supported: unsupported protocol version";
        return Parsed::Refused(Abrupt { status_line: LINE, body: LINE });
    }
    let ends = [("\r\n\r\n", 4), ("\n\n", 2)];
    let Some(end) = ends.iter().filter_map(|(end, len)| Some(text.find(end)? + len)).min() else {
        return Parsed::Partial;
    };
    let head = text.get(..end).unwrap_or_default();
    let first = format!("{} HTTP/1.1\r\n", line.trim_end().trim_end_matches(version).trim_end());
    let rest = head.get(line.len() + 1..).unwrap_or_default().replace("\r\n", "\n");
    let mut again = rest.replace("\n ", " ").replace("\n\t", " ").lines().fold(first, |mut all, line| {
        let name = line.split(':').next().unwrap_or_default();
        if !name.ends_with(' ') && !line.is_empty() {
            all.push_str(line);
            all.push_str("\r\n");
        }
        all
    });
    again.push_str("\r\n");
    match plain(again.as_bytes()) {
        Ok(Parsed::Head(head, _)) => Parsed::Head(head, end),
        Ok(Parsed::Partial) | Err(_) => Parsed::Refused(Abrupt::BAD_REQUEST),
        Ok(refused) => refused,
    }
}

impl Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub(super) fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The host that the request is for: the absolute target's, else the header's.
    pub(super) fn host(&self) -> &str {
        crate::api::routes::authority(&self.target).or_else(|| self.value("host")).unwrap_or_default()
    }

    fn checked(mut self, length: usize) -> Parsed {
        const NO_HOST: &str = "400 Bad Request: missing required Host header";
        const NOT_IMPLEMENTED: Abrupt =
            Abrupt { status_line: "501 Not Implemented", body: "Unsupported transfer encoding" };
        let bad = Parsed::Refused(Abrupt::BAD_REQUEST);
        let target = self.target.as_str();
        if !target.starts_with('/') && target != "*" && !target.contains("://") {
            return bad;
        }
        match self.values("host").count() {
            0 if !self.http10 => return Parsed::Refused(Abrupt { status_line: NO_HOST, body: NO_HOST }),
            0 | 1 => {}
            _ => return bad,
        }
        let codings: Vec<_> = self.values("transfer-encoding").collect();
        let lengths: Vec<_> = self.values("content-length").collect();
        let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let same = lengths.windows(2).all(|pair| pair.first() == pair.last());
        let body_length = match lengths.first() {
            None => Some(0),
            Some(text) if same && lengths.iter().all(digits) => text.parse::<usize>().ok(),
            Some(_) => None,
        };
        let chunked = match codings.as_slice() {
            [] => false,
            [one] if one.eq_ignore_ascii_case("chunked") => true,
            _ => return Parsed::Refused(NOT_IMPLEMENTED),
        };
        let Some(body_length) = body_length else { return bad };
        let says = |word: &str| {
            let mut words = self.values("connection").flat_map(|value| value.split(','));
            words.any(|one| one.trim().eq_ignore_ascii_case(word))
        };
        let keep_alive = if self.http10 { says("keep-alive") } else { !says("close") };
        let expects = match self.value("expect") {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("100-continue") => true,
            Some(_) => return Parsed::Answered(Whole::empty(417).with("Connection", "close")),
        };
        (self.chunked, self.length) = (chunked, if chunked { 0 } else { body_length });
        (self.keep_alive, self.expects) = (keep_alive, expects);
        Parsed::Head(self, length)
    }
}
