//! What a GGUF file says about itself, read without llama.cpp: for `/api/tags` and `/api/show`.
//!
//! Takes a path and promises metadata, tensors and a digest. It refuses what cannot be a sound file: a wrong
//! magic, lengths beyond the file, nesting, tensors that end after the file does. A hostile file costs at most
//! the memory of its own metadata.

mod kinds;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use kinds::{quantization, tensor_kind};

/// One tensor of a file.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type as GGUF numbers it.
    pub kind: u32,
    /// Its dimensions, the innermost first.
    pub shape: Vec<u64>,
}

/// The metadata of one file.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// Key and value; lists are `null` unless they were asked for.
    pub meta: Map<String, Value>,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 over metadata and size, in hexadecimal: enough to tell one model from another without reading
    /// gigabytes.
    pub digest: String,
}

/// What a reader does with lists (a tokenizer has lists of 50,000 texts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// Read over them.
    Skip,
    /// Keep them.
    Keep,
}

impl Gguf {
    /// Reads the metadata of a file.
    pub fn read(path: &Path, lists: Lists) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut reader = Reader { inner: BufReader::new(file), size, at: 0, hash: Sha256::new(), lists };
        if reader.bytes(4)? != b"GGUF" {
            return Err(fault("this is no GGUF file"));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(fault(format!("GGUF version {version} is not supported")));
        }
        let (tensors, keys) = (reader.u64()?, reader.u64()?);
        let mut meta = Map::new();
        for _ in 0..keys {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = reader.value(kind, true)?;
            meta.insert(key, value);
        }
        let tensors = reader.tensors(tensors, &meta)?;
        reader.hash.update(size.to_le_bytes());
        let digest = hex(&reader.hash.finalize());
        Ok(Self { meta, tensors, size, digest })
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.meta.get(key)?.as_str()
    }

    /// A number that belongs to the architecture, as in `llama.context_length`.
    pub fn of_architecture(&self, key: &str) -> Option<u64> {
        self.meta.get(&format!("{}.{key}", self.architecture()))?.as_u64()
    }

    /// The architecture, `llama` for instance.
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or("unknown")
    }

    /// The model's chat template, in the template language of its makers.
    pub fn chat_template(&self) -> Option<&str> {
        self.text("tokenizer.chat_template")
    }

    /// Is it a model for embeddings only?
    pub fn is_embedding(&self) -> bool {
        self.of_architecture("pooling_type").is_some()
    }

    /// How many weights the model has.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|t| t.shape.iter().fold(1, |n: u64, d| n.saturating_mul(*d))).sum()
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn fault(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

struct Reader {
    inner: BufReader<File>,
    size: u64,
    at: u64,
    hash: Sha256,
    lists: Lists,
}

impl Reader {
    fn bytes(&mut self, count: u64) -> io::Result<Vec<u8>> {
        // Checked before memory is asked for: a length is the file's claim.
        if count > self.size.saturating_sub(self.at) {
            return Err(fault("the file ends within its metadata"));
        }
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| fault("too long"))?];
        self.inner.read_exact(&mut bytes)?;
        self.at += count;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.bytes(N as u64)?.try_into().map_err(|_| fault("short read"))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> io::Result<String> {
        let count = self.u64()?;
        Ok(String::from_utf8_lossy(&self.bytes(count)?).into_owned())
    }

    fn value(&mut self, kind: u32, outermost: bool) -> io::Result<Value> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            // The shortest text of the small float, not the long one of the same value as a double.
            6 => {
                f32::from_le_bytes(self.array()?).to_string().parse::<f64>().map_or(Value::Null, Value::from)
            }
            7 => (self.array::<1>()? != [0]).into(),
            8 => self.text()?.into(),
            9 if outermost => self.list()?,
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            12 => f64::from_le_bytes(self.array()?).into(),
            _ => return Err(fault(format!("metadata of unknown type {kind}"))),
        })
    }

    fn list(&mut self) -> io::Result<Value> {
        let (kind, count) = (self.u32()?, self.u64()?);
        let mut list = Vec::new();
        for _ in 0..count {
            let value = self.value(kind, false)?;
            if self.lists == Lists::Keep {
                list.push(value);
            }
        }
        Ok(if self.lists == Lists::Keep { Value::Array(list) } else { Value::Null })
    }

    fn tensors(&mut self, count: u64, meta: &Map<String, Value>) -> io::Result<Vec<Tensor>> {
        let mut tensors = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..count {
            let name = self.text()?;
            let dimensions = self.u32()?;
            if dimensions > 8 {
                return Err(fault(format!("tensor {name:?} has {dimensions} dimensions")));
            }
            let shape = (0..dimensions).map(|_| self.u64()).collect::<io::Result<Vec<_>>>()?;
            let (kind, offset) = (self.u32()?, self.u64()?);
            ends.push(offset.saturating_add(kinds::bytes(kind, &shape)));
            tensors.push(Tensor { name, kind, shape });
        }
        let alignment =
            meta.get("general.alignment").and_then(Value::as_u64).filter(|a| *a > 0).unwrap_or(32);
        let data = self.at.div_ceil(alignment).saturating_mul(alignment);
        for (tensor, end) in tensors.iter().zip(ends) {
            let end = end.saturating_add(data);
            if end > self.size {
                let (name, size) = (&tensor.name, self.size);
                return Err(fault(format!("tensor {name:?} offset+size ({end}) exceeds file size ({size})")));
            }
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("engine-gguf-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn sample(with_data: bool) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        out.extend(3u64.to_le_bytes());
        text(&mut out, "general.architecture");
        out.extend(8u32.to_le_bytes());
        text(&mut out, "tiny");
        text(&mut out, "tiny.context_length");
        out.extend(4u32.to_le_bytes());
        out.extend(64u32.to_le_bytes());
        text(&mut out, "list");
        out.extend(9u32.to_le_bytes());
        out.extend(8u32.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        text(&mut out, "x");
        text(&mut out, "w");
        out.extend(2u32.to_le_bytes());
        out.extend(4u64.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        out.extend(0u32.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        if with_data {
            out.resize(out.len().div_ceil(32) * 32 + 32, 0);
        }
        out
    }

    #[test]
    fn a_sound_file_is_read() {
        let path = file("sound", &sample(true));
        let gguf = Gguf::read(&path, Lists::Skip).unwrap();
        assert_eq!(gguf.architecture(), "tiny");
        assert_eq!(gguf.of_architecture("context_length"), Some(64));
        assert_eq!(gguf.meta.get("list"), Some(&Value::Null));
        assert_eq!((gguf.parameters(), gguf.digest.len()), (8, 64));
        assert!(Gguf::read(&path, Lists::Keep).unwrap().meta["list"].is_array());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_damaged_file_is_refused_with_the_reason() {
        let path = file("cut", &sample(false));
        let error = Gguf::read(&path, Lists::Skip).unwrap_err().to_string();
        assert!(error.contains("tensor \"w\" offset+size") && error.contains("exceeds file size"), "{error}");
        std::fs::write(&path, &sample(true)[..60]).unwrap();
        assert!(Gguf::read(&path, Lists::Skip).is_err());
        std::fs::write(&path, b"hello").unwrap();
        assert!(Gguf::read(&path, Lists::Skip).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
