//! Which limits hold for a caller: the key's own, and the configuration's where it has none.

use crate::config::Limits;
use crate::types::KeyLimits;

/// What holds. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effective {
    /// Requests to models in a minute.
    pub requests_per_minute: Option<u32>,
    /// Lists in a minute.
    pub lists_per_minute: Option<u32>,
    /// Turns at once.
    pub concurrent: Option<u32>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// Tokens in a month.
    pub tokens_per_month: Option<u64>,
    /// Seconds of the model server in a day.
    pub gpu_seconds_per_day: Option<u64>,
    /// Tokens of one answer.
    pub max_output_tokens: Option<u32>,
    /// Tokens of context.
    pub max_context: Option<u32>,
    /// Turns in the queue.
    pub weight: u32,
}

impl Effective {
    /// For a key with these limits of its own.
    pub fn of(all: &Limits, own: Option<&KeyLimits>) -> Self {
        let own = own.copied().unwrap_or_default();
        Self {
            requests_per_minute: pick(own.requests_per_minute, all.requests_per_minute),
            lists_per_minute: all.lists_per_minute,
            concurrent: pick(own.concurrent, all.concurrent),
            tokens_per_minute: pick(own.tokens_per_minute, all.tokens_per_minute),
            tokens_per_day: pick(own.tokens_per_day, all.tokens_per_day),
            tokens_per_month: pick(own.tokens_per_month, all.tokens_per_month),
            gpu_seconds_per_day: pick(own.gpu_seconds_per_day, all.gpu_seconds_per_day),
            max_output_tokens: pick(own.max_output_tokens, all.max_output_tokens),
            max_context: pick(own.max_context, all.max_context),
            weight: own.weight.unwrap_or(1),
        }
    }

    /// Is there a bound on tokens over time?
    pub const fn bounds_tokens(&self) -> bool {
        self.tokens_per_minute.is_some() || self.tokens_per_day.is_some() || self.tokens_per_month.is_some()
    }

    /// Must anything of a request be remembered when it has ended?
    pub(super) const fn budgets(&self) -> bool {
        self.bounds_tokens() || self.gpu_seconds_per_day.is_some()
    }

    /// The most tokens that could ever fit.
    pub(super) fn most_tokens(&self) -> u64 {
        let all = [self.tokens_per_minute, self.tokens_per_day, self.tokens_per_month];
        all.into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

/// The key's own word, in which 0 is none; the configuration's where it has none.
fn pick<N: Copy + Default + PartialEq>(own: Option<N>, all: Option<N>) -> Option<N> {
    match own {
        Some(number) if number == N::default() => None,
        Some(number) => Some(number),
        None => all,
    }
}
