//! Respond: what a caller hears. The only place that turns failures into statuses and words.
//!
//! Takes the error of any stage; promises one answer in the caller's dialect with a request id and nothing of our inner
//! workings. Every answer leaves with the headers of `head`.

mod admission;
pub mod cors;
mod error;
pub mod head;
mod refusal;

pub use error::{Failure, StreamFault};
