//! Portcullis: the gate in front of an Ollama server.
//!
//! The modules stand in the order in which a request meets them; `ARCHITECTURE.md` walks one chat request through them. A
//! module imports only modules of a lower rank (`tests/it/architecture.rs` holds the ranks and fails on a violation).
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod endpoint;
pub mod listen;
pub mod store;
pub mod types;

pub mod identify;

pub mod admit;

pub mod validate;

pub mod dialect;

pub mod route;

pub mod queue;

pub mod forward;
pub mod upstream;

pub mod respond;

pub mod record;

pub mod serve;
