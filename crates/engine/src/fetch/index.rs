//! Where the wheel is: the package index of this machine's pip, and its page about the package.
//!
//! Takes the environment and pip's configuration files; reads pages in the HTML and the JSON form (PEP 503 and
//! 691). Addresses with a password in them are never shown whole.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::env;

const PUBLIC: &str = "https://pypi.org/simple";

/// The index: `PIP_INDEX_URL`, else the strongest configuration file that names one, else the public one.
pub(super) fn url() -> String {
    env::pip_index_url()
        .or_else(|| {
            let files = env::pip_config_files();
            files.iter().rev().find_map(|file| of_config(&std::fs::read_to_string(file).ok()?))
        })
        .unwrap_or_else(|| PUBLIC.to_owned())
}

/// `index-url` in pip's configuration, of the sections that `pip download` reads.
fn of_config(text: &str) -> Option<String> {
    let mut section = "";
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((key, value)) = line.split_once(['=', ':'])
            && ["index-url", "index_url"].contains(&key.trim())
            && ["global", "download"].contains(&section)
        {
            found = Some(value.trim().to_owned()).filter(|value| !value.is_empty()).or(found);
        }
    }
    found
}

/// An address without user and password.
pub(super) fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            match authority.rsplit_once('@') {
                Some((user, _)) => format!("{scheme}://***{}", rest.get(user.len()..).unwrap_or_default()),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    }
}

/// The address of a file of a package.
pub(super) fn find(index: &str, package: &str, file: &str) -> Result<String, String> {
    let page = format!("{}/{package}/", index.trim_end_matches('/'));
    let out = Command::new("curl")
        .args(["-fsSL", "--max-time", "60", "--connect-timeout", "20", "--proto", "=http,https"])
        .args(["-H", "Accept: application/vnd.pypi.simple.v1+json, text/html;q=0.5"])
        .args(["-w", "\n%{url_effective}", "--url", &page])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run curl: {error}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let (text, base) = text.rsplit_once('\n').ok_or("an empty page")?;
    let link = of_json(text, file).or_else(|| of_html(text, file));
    let link = link.ok_or_else(|| format!("the page about {package} does not name {file}"))?;
    Ok(absolute(base, &link))
}

fn of_json(page: &str, file: &str) -> Option<String> {
    let page: Value = serde_json::from_str(page).ok()?;
    let files = page.get("files")?.as_array()?;
    let one = files.iter().find(|one| one.get("filename").and_then(Value::as_str) == Some(file))?;
    Some(one.get("url")?.as_str()?.to_owned())
}

fn of_html(page: &str, file: &str) -> Option<String> {
    page.split("href=").skip(1).find_map(|rest| {
        let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
        let link = rest.split(quote).nth(1)?.split('#').next()?.replace("&amp;", "&");
        let path = link.split('?').next()?;
        (path.rsplit('/').next() == Some(file)).then_some(link)
    })
}

/// A link on a page as a whole address.
fn absolute(base: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if let Some(host) = link.strip_prefix("//") {
        return format!("{scheme}://{host}");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if link.starts_with('/') {
        return format!("{scheme}://{host}{link}");
    }
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => drop(folders.pop()),
            part => folders.push(part),
        }
    }
    format!("{scheme}://{host}/{}", folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_both_forms_are_read() {
        let json =
            r#"{"files":[{"filename":"a.whl","url":"u/a"},{"filename":"b.whl","url":"https://f/b.whl"}]}"#;
        assert_eq!(of_json(json, "b.whl"), Some("https://f/b.whl".into()));
        assert_eq!(of_json(json, "c.whl"), None);
        let html =
            r#"<a href="../../p/a.whl#sha256=1">a</a><a data-x=1 href='/p/b.whl?x=1&amp;y=2#sha256=2'>b</a>"#;
        assert_eq!(of_html(html, "a.whl"), Some("../../p/a.whl".into()));
        assert_eq!(of_html(html, "b.whl"), Some("/p/b.whl?x=1&y=2".into()));
        assert_eq!(of_html(html, "whl"), None);
    }

    #[test]
    fn links_are_made_whole() {
        let base = "https://u:p@m.example/api/simple/pkg/";
        assert_eq!(absolute(base, "https://f/x"), "https://f/x");
        assert_eq!(absolute(base, "../../p/x"), "https://u:p@m.example/api/p/x");
        assert_eq!(absolute(base, "/p/x"), "https://u:p@m.example/p/x");
        assert_eq!(absolute(base, "//f/x"), "https://f/x");
        assert_eq!(absolute(base, "x"), "https://u:p@m.example/api/simple/pkg/x");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("https://u:p@m.example/simple"), "https://***@m.example/simple");
        assert_eq!(shown("https://m.example/a@b"), "https://m.example/a@b");
    }

    #[test]
    fn pip_configuration_is_read() {
        let text = "[install]\nindex-url = no\n[global]\ntimeout=3\nindex-url = https://m.example/simple\n";
        assert_eq!(of_config(text), Some("https://m.example/simple".into()));
        assert_eq!(of_config("[global]\nindex-url=\n"), None);
    }
}
