//! Serve: the stages in order, and the answers that need no upstream.
//!
//! `pipeline` shows the whole way of a request on one screen. The endpoints that need no upstream are a page, three lists and
//! two probes, so they are matched here and not by a framework.

mod admin;
mod front;
mod gate;
mod lists;
mod ops;
mod pages;
mod pipeline;
mod recording;

pub use front::Front;
pub use gate::Gate;
pub use ops::Ops;
