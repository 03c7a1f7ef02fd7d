//! Configuration: flags > environment > file > defaults, resolved once into an immutable [`Config`].
//!
//! Takes what was written (`raw`), promises what holds ([`Config`]) or every fault at once ([`Faults`]); refuses unknown
//! names. Every key, its environment name, its default and its meaning stand in `keys`; the environment is read in `env`.

pub mod env;
mod fault;
mod files;
mod found;
mod issuers;
pub mod keys;
mod listener;
mod parse;
mod raw;
mod reader;
mod resolved;
mod upstream_url;
mod value;

pub use fault::{Fault, Faults};
pub use files::Files;
pub use parse::duration;
pub use raw::{Changes, Origin, Raw};
pub use resolved::*;
pub use upstream_url::UpstreamUrl;
