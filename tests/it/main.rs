//! The gateway as its callers and its upstream see it: one binary, real sockets, the scripted Ollama on the other side.

mod architecture;
mod cancel;
mod client;
mod command;
mod contract;
mod docs;
mod errors;
mod framing;
mod harness;
mod limits;
mod relay;
mod streams;
mod validation;
