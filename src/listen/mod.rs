//! Listen: own accept loop on hyper, connection caps, framing checks, deadlines, drain.
//!
//! Takes bound listeners and a service; promises that the service only sees heads that every parser reads alike, from
//! connections that are neither too many nor too slow, and that a stop waits for what is running. Refuses, before hyper
//! sees it, what hyper would forgive (trust.md group A and B).

mod accept;
pub mod chunked;
pub mod clock;
mod connection;
mod deadlines;
mod field;
mod guard;
mod head;
mod inlet;
mod places;
mod scan;
pub mod scratch;
mod socket;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod verb;

pub use accept::{Bell, Doors, Settings, serve};
pub use connection::{Answering, Handler};
pub use deadlines::Deadlines;
pub use head::Reject;
pub use inlet::{Freely, Grants, Inlet, UNASKED, Unread};
pub use places::network;
pub use socket::Socket;
pub use state::{ConnState, Halting, InFlight};
pub use tls::{Tls, TlsError};
pub use verb::Verb;
