//! `portcullis-engine`: a small, real server that speaks Ollama's native API on llama.cpp.
//!
//! It takes HTTP requests on a loopback address and promises Ollama's shapes, words and status codes for the
//! routes it serves. It refuses to be a gate: no keys, no limits beyond a body cap. The gateway stands in front.
//!
//! A request meets the modules in this order:
//!
//! 1. [`serve`]: accept, path table, body, answer ([`wire`] reads requests and writes replies);
//! 2. [`library`]: which model file a name means ([`names`], [`gguf`]);
//! 3. [`infer`]: one worker thread owns llama.cpp and serves jobs in turn;
//! 4. [`stats`]: what happened, for tests and operators.
//!
//! [`fetch`] brings the default model; [`cli`] is the command line.

pub mod cli;
pub mod clock;
pub mod env;
pub mod fetch;
pub mod gguf;
pub mod infer;
pub mod library;
pub mod log;
pub mod names;
pub mod serve;
pub mod stats;
pub mod wire;
