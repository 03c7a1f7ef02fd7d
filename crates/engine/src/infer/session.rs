//! One llama.cpp context and what it has read.
//!
//! Promises that the same tokens give the same state, whatever was read before: prompts are read in batches of
//! [`BATCH`] from the first token on, and only whole such batches of an earlier prompt are kept for the next.
//! The caller's leaving is looked for between batches.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::Settings;
use super::outlet::{Gone, Outlet};
use crate::wire::Refusal;

/// Tokens read at once.
pub const BATCH: usize = BATCH_U32 as usize;
/// The same for llama.cpp.
const BATCH_U32: u32 = 64;

/// Why a job did not come to its end.
#[derive(Debug)]
pub enum Halt {
    /// It is refused or failed.
    Refused(Refusal),
    /// Nobody waits for it any more.
    Gone,
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Gone> for Halt {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// A failure within llama.cpp.
pub fn broken(what: &str, error: &dyn std::fmt::Display) -> Halt {
    Halt::Refused(Refusal::new(500, format!("{what}: {error}")))
}

/// The context of a generating model.
#[derive(Debug)]
pub struct Session<'m> {
    /// The model.
    pub model: &'m LlamaModel,
    /// llama.cpp's context.
    pub context: LlamaContext<'m>,
    /// The context length that was asked for; llama.cpp may have made it a little longer.
    pub asked: u32,
    batch: LlamaBatch<'static>,
    read: Vec<LlamaToken>,
}

impl<'m> Session<'m> {
    /// A fresh context of so many tokens.
    pub fn new(
        backend: &LlamaBackend,
        model: &'m LlamaModel,
        settings: &Settings,
        asked: u32,
    ) -> Result<Self, Refusal> {
        let parameters = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(asked))
            .with_n_batch(BATCH_U32)
            .with_n_ubatch(BATCH_U32)
            .with_n_threads(settings.threads)
            .with_n_threads_batch(settings.threads);
        let context = model
            .new_context(backend, parameters)
            .map_err(|error| Refusal::new(500, format!("context of {asked} tokens: {error}")))?;
        Ok(Self { model, context, asked, batch: LlamaBatch::new(BATCH, 1), read: Vec::new() })
    }

    /// Reads a prompt; afterwards the context can say what may follow. `tokens` is never empty.
    pub fn prefill(&mut self, tokens: &[LlamaToken], outlet: &Outlet) -> Result<(), Halt> {
        let kept = self.keep(tokens);
        let mut at = kept;
        for chunk in tokens.get(kept..).unwrap_or_default().chunks(BATCH) {
            outlet.wanted()?;
            self.batch.clear();
            for token in chunk {
                let last = at + 1 == tokens.len();
                self.add(*token, at, last)?;
                at += 1;
            }
            self.decode()?;
            if chunk.len() == BATCH {
                self.read.extend_from_slice(chunk);
            }
        }
        Ok(())
    }

    /// Reads one generated token, the one of this place.
    pub fn step(&mut self, token: LlamaToken, place: usize) -> Result<(), Halt> {
        self.batch.clear();
        self.add(token, place, true)?;
        self.decode()
    }

    /// Keeps what this prompt shares with the last one, in whole batches; returns how many tokens that are.
    fn keep(&mut self, tokens: &[LlamaToken]) -> usize {
        let shared = self.read.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        // The last token is always read anew: its outcome is what comes next.
        let kept = shared.min(tokens.len().saturating_sub(1)) / BATCH * BATCH;
        self.read.truncate(kept);
        let from = u32::try_from(kept).unwrap_or(0);
        // Some architectures cannot forget a part: then all is forgotten.
        if kept > 0 && matches!(self.context.clear_kv_cache_seq(Some(0), Some(from), None), Ok(true)) {
            return kept;
        }
        self.read.clear();
        self.context.clear_kv_cache();
        0
    }

    fn add(&mut self, token: LlamaToken, place: usize, last: bool) -> Result<(), Halt> {
        let place = i32::try_from(place).map_err(|error| broken("prompt", &error))?;
        self.batch.add(token, place, &[0], last).map_err(|error| broken("batch", &error))
    }

    fn decode(&mut self) -> Result<(), Halt> {
        self.context.decode(&mut self.batch).map_err(|error| {
            // What the context holds now is anybody's guess.
            self.read.clear();
            broken("decode", &error)
        })
    }
}
