//! Embeds the page: every file under `web/` that the page loads, plain and compressed, under a hash of the whole tree.
//!
//! The hash is part of every address (`/static/<hash>/js/main.js`), so a file may be kept for ever, and relative imports work
//! unchanged. No Node and no network: what is vendored stands in `web/vendor`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

const PARTS: [&str; 5] = ["css", "js", "vendor", "icon.svg", "manifest.webmanifest"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=web");
    let web = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?).join("web");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut files = Vec::new();
    for part in PARTS {
        walk(&web.join(part), &mut files)?;
    }
    files.sort();
    let mut tree = Sha256::new();
    for file in &files {
        tree.update(name(&web, file));
        tree.update(shipped(&web, file)?);
    }
    let hash = hex(&tree.finalize());
    let root = format!("/static/{hash}");
    let mut table = String::from("[\n");
    for (at, file) in files.iter().enumerate() {
        entry(&mut table, &out, at, &format!("{root}/{}", name(&web, file)), &shipped(&web, file)?)?;
    }
    table.push_str("]\n");
    let page = page(&fs::read_to_string(web.join("chat.html"))?, &root, &web, &files);
    let mut own = String::new();
    entry(&mut own, &out, files.len(), "/chat", page.as_bytes())?;
    fs::write(out.join("assets.rs"), table)?;
    fs::write(out.join("page.rs"), own.trim_end_matches(",\n"))
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for inner in fs::read_dir(path)? {
            walk(&inner?.path(), files)?;
        }
    } else if !matches!(path.file_name().and_then(|name| name.to_str()), Some("SHA256" | "LICENSE")) {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Modules that a part of the page loads when it needs them.
const LAZY: [&str; 5] = ["js/chats.js", "js/highlight.js", "js/images.js", "js/memory.js", "js/transfer.js"];

/// Our own scripts and styles without indentation and without lines that hold a comment alone: a fifth of what a first visit
/// loads. No text of theirs may span lines; `tests/it/docs.rs` looks.
fn shipped(web: &Path, file: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(file)?;
    let name = name(web, file);
    if !name.starts_with("js/") && !name.starts_with("css/") {
        return Ok(bytes);
    }
    Ok(squeezed(&String::from_utf8_lossy(&bytes)).into_bytes())
}

fn squeezed(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| {
        let comment = line.starts_with("// ") || (line.starts_with("/*") && line.ends_with("*/"));
        !line.is_empty() && !comment
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

fn name(web: &Path, file: &Path) -> String {
    file.strip_prefix(web).unwrap_or(file).to_string_lossy().replace('\\', "/")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).fold(String::new(), |mut text, byte| {
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// The page with its addresses; what its script imports is fetched at once, not one after the other.
fn page(text: &str, root: &str, web: &Path, files: &[PathBuf]) -> String {
    let modules = files.iter().map(|file| name(web, file)).filter(|name| {
        (name.starts_with("js/") && name != "js/main.js" && !LAZY.contains(&name.as_str()))
            || name == "vendor/marked/marked.esm.js"
    });
    let preload: Vec<_> =
        modules.map(|name| format!("<link rel=\"modulepreload\" href=\"{root}/{name}\">")).collect();
    squeezed(&text.replace("{static}", root).replace("{preload}", &preload.join("\n")))
}

fn entry(table: &mut String, out: &Path, at: usize, path: &str, bytes: &[u8]) -> io::Result<()> {
    let gzip = {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(bytes)?;
        writer.finish()?
    };
    let mut brotli = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut &*bytes, &mut brotli, &params)?;
    let mut row = format!("Asset {{ path: {path:?}, etag: \"\\\"{}\\\"\"", hex(&Sha256::digest(bytes)));
    for (field, bytes) in [("plain", bytes), ("gzip", &gzip), ("brotli", &brotli)] {
        let file = out.join(format!("{at}.{field}"));
        fs::write(&file, bytes)?;
        let _written = write!(row, ", {field}: include_bytes!({:?})", file.display().to_string());
    }
    let _written = writeln!(table, "{row} }},");
    Ok(())
}
