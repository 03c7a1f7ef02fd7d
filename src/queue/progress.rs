//! How far a request has come before its first word: written by whoever works on it, read by the answer's body.
//!
//! Only callers who ask for phases have one; nothing of it touches the way of the others.

use std::sync::atomic::{AtomicU64, Ordering};

/// Before the first word of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is known yet.
    Begun,
    /// So many in line, itself included.
    Queue(u32),
    /// The model is being loaded.
    Loading,
    /// It reads the prompt.
    Prompt,
}

/// The present [`Phase`] of one request.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

const LOADING: u64 = 1 << 32;
const PROMPT: u64 = 2 << 32;

impl Progress {
    /// It has come this far.
    pub fn set(&self, phase: Phase) {
        let code = match phase {
            Phase::Begun => 0,
            Phase::Queue(place) => u64::from(place),
            Phase::Loading => LOADING,
            Phase::Prompt => PROMPT,
        };
        self.0.store(code, Ordering::Relaxed);
    }

    /// How far it has come.
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Begun,
            LOADING => Phase::Loading,
            PROMPT => Phase::Prompt,
            place => Phase::Queue(u32::try_from(place).unwrap_or(u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_read() {
        let progress = Progress::default();
        assert_eq!(progress.get(), Phase::Begun);
        for phase in [Phase::Queue(1), Phase::Queue(u32::MAX), Phase::Loading, Phase::Prompt, Phase::Begun] {
            progress.set(phase);
            assert_eq!(progress.get(), phase);
        }
    }
}
