//! The error table, where it is about turns, budgets and bounds of callers: admission and the queue.

use http::StatusCode;

use super::error::{Failure, StreamFault};
use crate::admit::{AdmitError, Halt};
use crate::queue::QueueError;
use crate::types::Side;

impl Failure {
    /// The caller's model time of the day is used up, and this request had no answer yet.
    pub fn overrun(seconds: u64) -> Self {
        let fault = StreamFault::Overrun;
        Self {
            ending: fault.ending(),
            limit: fault.limit(),
            retry_after: Some(seconds.max(1)),
            ..Self::refused(StatusCode::TOO_MANY_REQUESTS, fault.public()).with(fault.detail())
        }
    }

    /// It must end although nothing is wrong with it.
    pub fn halted(halt: Halt) -> Self {
        match halt {
            Halt::Revoked => Self::revoked(),
            Halt::Overrun(seconds) => Self::overrun(seconds),
        }
    }
}

impl From<AdmitError> for Failure {
    fn from(error: AdmitError) -> Self {
        let limit = Some(error.word());
        let words = error.to_string();
        let wait = |words| Self::refused(StatusCode::TOO_MANY_REQUESTS, format!("{words}; see Retry-After"));
        let failure = match error {
            AdmitError::Rate { seconds, state } | AdmitError::Lists { seconds, state } => {
                let limits = Some(Box::new((Some(state), None)));
                Self { retry_after: Some(seconds), limits, ..wait(words) }
            }
            AdmitError::Budget { seconds, state, .. } => {
                Self { retry_after: Some(seconds), limits: Some(Box::new((None, state))), ..wait(words) }
            }
            AdmitError::Uploads { .. } => Self::refused(StatusCode::REQUEST_TIMEOUT, words),
            AdmitError::BodyMemory { .. } => {
                let public = "the gateway holds as many request bodies as it may (limits.body_memory); try again later";
                let refused = Self::refused(StatusCode::SERVICE_UNAVAILABLE, public).with(words);
                Self { retry_after: Some(5), side: Side::Gateway, ..refused }
            }
        };
        Self { limit, ..failure }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let (limit, detail) = (error.word(), error.to_string());
        if limit.is_some() {
            let refused =
                Self::refused(StatusCode::TOO_MANY_REQUESTS, format!("{error}; wait for one to end"));
            return Self { retry_after: Some(1), limit, ..refused.with(detail) };
        }
        let failure = Self::refused(StatusCode::SERVICE_UNAVAILABLE, "all models are busy; try again later")
            .with(detail);
        Self { retry_after: Some(5), side: Side::Gateway, ..failure }
    }
}

impl From<Halt> for StreamFault {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Revoked => Self::Revoked,
            Halt::Overrun(_) => Self::Overrun,
        }
    }
}
