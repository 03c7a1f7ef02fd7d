//! A permit: an admitted request, counted until it is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{AdmitError, Effective, Meter, RateState, TokenState, moment};
use crate::identify::Caller;
use crate::listen::clock::Millis;
use crate::record::Began;
use crate::types::{Caps, Principal, Scope};

/// Tokens of an answer that a caller with a budget gets, where neither the caller nor a limit names a number.
const ANSWER: u32 = 4_096;
/// Fewer tokens than these are no answer: better to come back later.
const SHORT_ANSWER: u64 = 64;

/// An admitted request, counted while it lives.
#[derive(Debug)]
pub struct Permit {
    pub(super) caller: Caller,
    pub(super) principal: Principal,
    pub(super) limits: Effective,
    pub(super) meter: Option<Arc<Meter>>,
    pub(super) rate: Option<RateState>,
    pub(super) tokens: Option<TokenState>,
    /// Tokens reserved and not settled, and until when they are owed.
    pub(super) reserved: u64,
    pub(super) owed_at: u64,
    /// Of the prompt among them, estimated.
    pub(super) prompt: u64,
    /// When the model server began.
    pub(super) began: Option<Began>,
    pub(super) settled: bool,
}

impl Permit {
    /// Who was admitted.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whom it is counted for.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What holds for the caller.
    pub const fn limits(&self) -> &Effective {
        &self.limits
    }

    /// What the rate headers say; `None` without a limit.
    pub const fn rate(&self) -> Option<RateState> {
        self.rate
    }

    /// What the headers about tokens say; `None` without a limit.
    pub const fn tokens(&self) -> Option<TokenState> {
        self.tokens
    }

    /// What the request may ask for. Where a budget of tokens holds, an answer gets an end: what was not reserved could not be refused.
    pub fn caps(&self) -> Caps {
        let (max_context, own) = (self.limits.max_context, self.limits.max_output_tokens);
        let unload = self.caller.key().is_some_and(|key| key.scopes.allow(Scope::Admin));
        if !self.limits.bounds_tokens() {
            return Caps { max_context, max_output: own, fill_output: own, unload };
        }
        let most = u32::try_from(self.limits.most_tokens()).unwrap_or(u32::MAX);
        let max_output = own.unwrap_or(u32::MAX).min(most);
        let left = self.meter.as_ref().map_or(u64::MAX, |meter| meter.budget().left(&self.limits, moment()));
        let left = u32::try_from(left.max(SHORT_ANSWER)).unwrap_or(u32::MAX);
        // Half of what is left at most, so that the prompt fits beside it.
        let fill_output = Some(ANSWER.min(max_output).min((left / 2).max(1)));
        Caps { max_context, max_output: Some(max_output), fill_output, unload }
    }

    /// From now on the model server may work on it.
    pub fn goes_out(&mut self, began: Began) {
        self.began = Some(began);
    }

    /// Reserves an estimated prompt and the longest answer, where a budget holds.
    pub fn reserve(&mut self, prompt: u64, output: u64) -> Result<(), AdmitError> {
        self.prompt = prompt;
        let Some(meter) = self.meter.as_ref().filter(|_| self.limits.bounds_tokens()) else { return Ok(()) };
        // More than ever fits waits for a full budget, and is owed afterwards: the estimate of a prompt is no reason to refuse for ever.
        let tokens = prompt.saturating_add(output).min(self.limits.most_tokens());
        let (at, mut budget) = (moment(), meter.budget());
        let reserved = budget.reserve(&self.limits, tokens, at);
        self.tokens = budget.state(&self.limits, at);
        match reserved {
            Ok(reserved_until) => {
                (self.reserved, self.owed_at) = (tokens, reserved_until);
                Ok(())
            }
            Err(short) => Err(AdmitError::budget(short, self.tokens)),
        }
    }

    /// Takes what was used, and gives back what was reserved beyond it. Where nobody counted, the prompt is what was estimated.
    pub fn settle(&mut self, used: Option<u64>, gpu_ms: u64) {
        self.settled = true;
        if let Some(meter) = &self.meter {
            let reserved = (std::mem::take(&mut self.reserved), self.owed_at);
            meter.budget().settle(&self.limits, reserved, used.unwrap_or(self.prompt), gpu_ms, moment());
        }
    }

    /// Settles an answer that was cut after so many tokens and milliseconds: nobody said how long its prompt was.
    pub fn settle_cut(&mut self, output: u64, worked: Millis) {
        self.settle(Some(self.prompt.saturating_add(output)), worked);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            match self.began.as_ref().and_then(|began| began.get()).map(Instant::elapsed) {
                // Its caller left: what was worked on until then is theirs all the same.
                Some(worked) => self.settle(None, u64::try_from(worked.as_millis()).unwrap_or(u64::MAX)),
                None => self.settle(Some(0), 0),
            }
        }
        if let Some(meter) = &self.meter {
            meter.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
