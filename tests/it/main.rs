//! The gateway as its callers and its upstream see it: one binary, real sockets, the scripted Ollama on the other side.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should fail loudly, where it stands"
)]

mod actions;
mod architecture;
mod audit;
mod backup;
mod bodies;
mod budgets;
mod canary;
mod cancel;
mod client;
mod command;
mod contract;
mod credentials;
mod default_model;
mod docs;
mod doctor;
mod doors;
mod durability;
mod errors;
mod folder;
mod framing;
mod harness;
mod issuer;
mod keys;
mod limits;
mod ops;
mod page;
mod relay;
mod reload;
mod sippers;
mod status;
mod streams;
mod tokens;
mod up;
mod uploads;
mod validation;
mod waiting;
