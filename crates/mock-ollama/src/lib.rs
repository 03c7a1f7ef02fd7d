//! A scripted stand-in for an Ollama server, for tests, benches and demos.
//!
//! [`Mock`] listens on 127.0.0.1 and answers the native routes as Ollama does, by the measure of the exchanges in
//! [`recordings`]. A [`Script`] makes it slow, silent, broken or gone; [`Mock::seen`] tells what came in and who left when. [`compare`]
//! sends the recorded requests to any server, this one or a new Ollama, and reports where it differs.
//!
//! Left out: the `/v1` routes (the gateway does not forward them yet), TLS, HTTP/2, Go's cap on header bytes, and everything that would
//! need a model.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use mock_ollama::{Mock, On, Script};
//! let mock = Mock::start().await?;
//! mock.script(On::model("alpha"), Script { hold_after: Some(3), ..Script::default() });
//! assert!(mock.url().starts_with("http://127.0.0.1:"));
//! assert!(mock.seen().is_empty());
//! # Ok::<(), std::io::Error>(())
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod api;
pub mod compare;
mod go;
mod log;
mod mock;
pub mod recordings;
mod script;
mod serve;

pub use api::catalog::{Capability, Model};
pub use log::{Disconnect, Phase, Seen, TimedOut};
pub use mock::{Builder, Mock};
pub use script::{End, On, Raw, Script, Then};
