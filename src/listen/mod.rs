//! Listen: own accept loop on hyper, connection caps, framing checks, deadlines, drain.
//!
//! Takes a bound listener and a service; promises that the service only sees heads that every parser reads alike, from
//! connections that are neither too many nor too slow, and that a stop waits for what is running. Refuses, before hyper
//! sees it, what hyper would forgive (trust.md group A and B).

mod accept;
pub mod chunked;
pub mod clock;
mod connection;
mod field;
mod guard;
mod head;
mod inlet;
mod scan;
pub mod scratch;
mod state;

pub use accept::{Bell, Settings, network, serve};
pub use connection::{Answering, Handler};
pub use head::Reject;
pub use inlet::{Inlet, TooLarge};
pub use state::{ConnState, InFlight};
