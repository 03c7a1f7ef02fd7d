//! A permit: an admitted request, whose tokens and model time are settled when it is dropped at the latest.

use std::sync::Arc;

use tokio::time::Instant;

use super::Running;
use super::budget::Budget;
use super::gpu::Charge;
use super::{AdmitError, Effective, Meter, RateState, TokenState, at, moment};
use crate::identify::Caller;
use crate::listen::clock::{Clock, Millis};
use crate::record::Began;
use crate::types::{Caps, Principal, Scope};

/// Tokens of an answer that a caller with a budget gets, where neither the caller nor a limit names a number.
const ANSWER: u32 = 4_096;
/// Fewer tokens than these are no answer: better to come back later.
const SHORT_ANSWER: u64 = 64;

/// Why an answer that runs must end although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The caller's key was revoked.
    Revoked,
    /// The day's model time is used up; so many seconds until the next day.
    Overrun(u64),
}

/// What may end an answer although nothing is wrong with it, for whoever asks while its permit is out of reach.
#[derive(Debug)]
pub struct Standing {
    caller: Caller,
    limits: Effective,
    meter: Arc<Meter>,
    charge: Option<Arc<Charge>>,
}

impl Standing {
    /// Must it end?
    pub fn halt(&self, clock: &Clock) -> Option<Halt> {
        halt(&self.caller, &self.limits, &self.meter, self.charge.as_deref(), clock)
    }
}

fn halt(
    caller: &Caller,
    limits: &Effective,
    meter: &Meter,
    charge: Option<&Charge>,
    clock: &Clock,
) -> Option<Halt> {
    if caller.has_ended() {
        return Some(Halt::Revoked);
    }
    let sweep = |second| meter.budget().sweep(limits, second, moment());
    charge?.is_over(clock, sweep).then(|| Halt::Overrun(Budget::day_ends_in(moment())))
}

/// An admitted request.
#[derive(Debug)]
pub struct Permit {
    pub(super) caller: Caller,
    pub(super) principal: Principal,
    pub(super) limits: Effective,
    pub(super) meter: Arc<Meter>,
    pub(super) rate: Option<RateState>,
    pub(super) tokens: Option<TokenState>,
    /// Tokens reserved and not settled, and until when they are owed.
    pub(super) reserved: u64,
    pub(super) owed_at: u64,
    /// Of the prompt among them, estimated.
    pub(super) prompt: u64,
    /// When the model server began.
    pub(super) began: Option<Began>,
    /// Model time that it is charged with, where a limit of that holds.
    pub(super) charge: Option<Arc<Charge>>,
    pub(super) settled: bool,
}

impl Permit {
    /// Boxed at once: it is handed on from room to room.
    pub(super) fn new(
        caller: Caller,
        principal: Principal,
        limits: Effective,
        meter: Arc<Meter>,
    ) -> Box<Self> {
        Box::new(Self {
            caller,
            principal,
            limits,
            meter,
            rate: None,
            tokens: None,
            reserved: 0,
            owed_at: 0,
            prompt: 0,
            began: None,
            charge: None,
            settled: false,
        })
    }

    /// How many of its principal have their turn.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.meter.running)
    }

    /// From now on the rate headers tell of requests to models, whatever this one asks for.
    pub fn show_models_rate(&mut self, now: Millis) {
        self.rate = self.limits.requests_per_minute.map(|limit| self.meter.rates.models.state(limit, now));
    }

    /// Must it end, whatever the model server does? Asked whenever its connection's task runs.
    pub fn halt(&self, clock: &Clock) -> Option<Halt> {
        halt(&self.caller, &self.limits, &self.meter, self.charge.as_deref(), clock)
    }

    /// To ask the same elsewhere, until it is settled.
    pub fn standing(&self) -> Standing {
        Standing {
            caller: self.caller.clone(),
            limits: self.limits,
            meter: Arc::clone(&self.meter),
            charge: self.charge.clone(),
        }
    }

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
    pub fn caps(&self, now: Millis) -> Caps {
        let (max_context, own) = (self.limits.max_context, self.limits.max_output_tokens);
        let unload = self.caller.key().is_some_and(|key| key.scopes.allow(Scope::Admin));
        if !self.limits.bounds_tokens() {
            return Caps { max_context, max_output: own, fill_output: own, unload };
        }
        let most = u32::try_from(self.limits.most_tokens()).unwrap_or(u32::MAX);
        let max_output = own.unwrap_or(u32::MAX).min(most);
        let left = self.meter.budget().left(&self.limits, at(now));
        let left = u32::try_from(left.max(SHORT_ANSWER)).unwrap_or(u32::MAX);
        // Half of what is left at most, so that the prompt fits beside it.
        let fill_output = Some(ANSWER.min(max_output).min((left / 2).max(1)));
        Caps { max_context, max_output: Some(max_output), fill_output, unload }
    }

    /// Where to note when the model server begins to work on it.
    pub fn goes_out(&mut self) -> Began {
        Arc::clone(self.began.get_or_insert_default())
    }

    /// Reserves an estimated prompt and the longest answer, and model time, where a budget holds: `mean` is what its model took lately.
    pub fn reserve(
        &mut self,
        (prompt, output): (u64, u64),
        mean: impl FnOnce() -> Option<Millis>,
        now: Millis,
    ) -> Result<(), AdmitError> {
        self.prompt = prompt;
        if !self.limits.budgets() {
            return Ok(());
        }
        // More than ever fits waits for a full budget, and is owed afterwards: the estimate of a prompt is no reason to refuse for ever.
        let tokens = prompt.saturating_add(output).min(self.limits.most_tokens());
        let tokens = if self.limits.bounds_tokens() { tokens } else { 0 };
        let began = self.goes_out();
        let (at, meter) = (at(now), Arc::clone(&self.meter));
        let mut budget = meter.budget();
        let reserved = budget.reserve(&self.limits, tokens, at);
        self.tokens = budget.state(&self.limits, at);
        (self.reserved, self.owed_at) =
            (tokens, reserved.map_err(|short| AdmitError::budget(short, self.tokens))?);
        // What was reserved is given back when this is dropped.
        let charge = budget.charge(&self.limits, mean, &began, at);
        self.charge = charge.map_err(|short| AdmitError::budget(short, self.tokens))?;
        Ok(())
    }

    /// Takes what was used, and gives back what was reserved beyond it. Where nobody counted, the prompt is what was estimated, and the
    /// model's time what went by; longer than that it cannot have been.
    pub fn settle(&mut self, used: Option<u64>, gpu_ms: Option<u64>) {
        self.settled = true;
        // A key may always ask what it has used; an address without a budget may not.
        if self.caller.key().is_none() && !self.limits.budgets() {
            return;
        }
        let mut gpu_ms = gpu_ms;
        let charge = self.charge.take();
        if let Some(charge) = &charge {
            let worked = charge.worked().unwrap_or(0);
            gpu_ms = Some(gpu_ms.map_or(worked, |told| told.min(worked)));
        }
        let reserved = (std::mem::take(&mut self.reserved), self.owed_at);
        let mut budget = self.meter.budget();
        if let Some(charge) = &charge {
            budget.discharge(charge);
        }
        budget.settle(&self.limits, reserved, used.unwrap_or(self.prompt), gpu_ms.unwrap_or(0), moment());
    }

    /// Nobody worked for it.
    pub fn forgive(&mut self) {
        self.settle(Some(0), Some(0));
    }

    /// Settles an answer that was cut after so many tokens and milliseconds: nobody said how long its prompt was.
    pub fn settle_cut(&mut self, output: u64, worked: Millis) {
        self.settle(Some(self.prompt.saturating_add(output)), Some(worked));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            match self.began.as_ref().and_then(|began| began.get()).map(Instant::elapsed) {
                // Its caller left: what was worked on until then is theirs all the same.
                Some(worked) => {
                    self.settle(None, Some(u64::try_from(worked.as_millis()).unwrap_or(u64::MAX)));
                }
                None => self.forgive(),
            }
        }
    }
}
