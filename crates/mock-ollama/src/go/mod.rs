//! How Go's standard library reads a request body.
//!
//! Ollama's leniency comes from Go's `encoding/json`: keys match whatever their case, the last duplicate wins, what
//! follows the first value is ignored. Its words for a fault reach the caller too. [`scan`] finds the first value and says what is
//! wrong with it, [`fields`] reads the fields that a route knows. Promises the texts of the recordings; makes no attempt at Go's
//! other unmarshalling rules (embedded structs, tags).

pub(crate) mod fields;
pub(crate) mod scan;
pub(crate) mod text;
