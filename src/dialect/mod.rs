//! Dialects: what the fields of a request mean, and how errors, heartbeats and last lines look, one room for each API.

pub mod ollama;
