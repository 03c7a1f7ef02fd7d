//! Texts to vectors of length one.
//!
//! A model made for embeddings pools by itself and reads each text at once. Any other model is read in batches,
//! and the mean over all places is taken: a usable vector where real Ollama refuses.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use tokio::time::Instant;

use super::Settings;
use super::generate::nanos;
use super::job::{Embedding, Event, Summary};
use super::outlet::Outlet;
use super::session::{BATCH, Halt, broken};
use crate::stats::Stats;
use crate::wire::Refusal;

/// What reads the texts.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'r> {
    /// llama.cpp.
    pub backend: &'r LlamaBackend,
    /// The model.
    pub model: &'r LlamaModel,
    /// Does the model pool by itself?
    pub pools: bool,
    /// The longest text in tokens.
    pub limit: u32,
    /// What holds for every job.
    pub settings: &'r Settings,
}

/// Embeds; says the vectors, returns the summary without its total and load times.
pub fn run(reader: Reader<'_>, work: &Embedding, outlet: &Outlet, stats: &Stats) -> Result<Summary, Halt> {
    let limit = reader.limit as usize;
    let mut texts = Vec::new();
    for input in &work.inputs {
        let mut tokens = reader.model.vocab().tokenize(input.as_bytes(), true, true);
        if tokens.len() > limit && !work.truncate {
            return Err(Refusal::new(400, "the input length exceeds the context length").into());
        }
        tokens.truncate(limit);
        if tokens.is_empty() {
            tokens.push(reader.model.vocab().bos());
        }
        texts.push(tokens);
    }
    let longest = texts.iter().map(Vec::len).max().unwrap_or(1).max(BATCH);
    let at_once = if reader.pools { longest } else { BATCH };
    let begun = Instant::now();
    let mut context = context(reader, longest, at_once)?;
    let mut batch = LlamaBatch::new(at_once, 1);
    let mut vectors = Vec::with_capacity(texts.len());
    for tokens in &texts {
        let vector = vector(&mut context, &mut batch, tokens, reader.pools, outlet)?;
        vectors.push(finish(vector, work.dimensions));
        stats.prompt(tokens.len());
    }
    outlet.say(Event::Vectors(vectors))?;
    Ok(Summary {
        prompt_eval_count: texts.iter().map(|tokens| tokens.len() as u64).sum(),
        prompt_eval_duration: nanos(begun.elapsed()),
        ..Summary::default()
    })
}

fn context(reader: Reader<'_>, longest: usize, at_once: usize) -> Result<LlamaContext<'_>, Halt> {
    let size = u32::try_from(longest).map_err(|error| broken("input", &error))?;
    let at_once = u32::try_from(at_once).map_err(|error| broken("input", &error))?;
    let pooling = if reader.pools { LlamaPoolingType::Unspecified } else { LlamaPoolingType::None };
    let parameters = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(size))
        .with_n_batch(at_once)
        .with_n_ubatch(at_once)
        .with_n_threads(reader.settings.threads)
        .with_n_threads_batch(reader.settings.threads)
        .with_embeddings(true)
        .with_pooling_type(pooling);
    reader.model.new_context(reader.backend, parameters).map_err(|error| broken("context", &error))
}

fn vector(
    context: &mut LlamaContext<'_>,
    batch: &mut LlamaBatch<'_>,
    tokens: &[LlamaToken],
    pools: bool,
    outlet: &Outlet,
) -> Result<Vec<f32>, Halt> {
    context.clear_kv_cache();
    let mut sum: Vec<f32> = Vec::new();
    let mut at = 0;
    for chunk in tokens.chunks(if pools { tokens.len() } else { BATCH }) {
        outlet.wanted()?;
        batch.clear();
        for token in chunk {
            batch.add(*token, at, &[0], true).map_err(|error| broken("batch", &error))?;
            at += 1;
        }
        context.decode(batch).map_err(|error| broken("decode", &error))?;
        if pools {
            return Ok(context.embeddings_seq_ith(0).map_err(|error| broken("embedding", &error))?.to_vec());
        }
        for (place, _) in (0..).zip(chunk) {
            let one = context.embeddings_ith(place).map_err(|error| broken("embedding", &error))?;
            sum.resize(one.len(), 0.0);
            sum.iter_mut().zip(one).for_each(|(sum, x)| *sum += x);
        }
    }
    Ok(sum)
}

/// Cuts a vector and gives it the length one; a sum becomes the direction of the mean by that.
fn finish(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    if let Some(dimensions) = dimensions.filter(|d| *d > 0) {
        vector.truncate(dimensions);
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in &mut vector {
            *x /= length;
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_the_length_one() {
        assert_eq!(finish(vec![3.0, 4.0], None), [0.6, 0.8]);
        assert_eq!(finish(vec![3.0, 4.0, 12.0], Some(2)), [0.6, 0.8]);
        assert_eq!(finish(vec![3.0, 4.0], Some(0)), [0.6, 0.8]);
        assert_eq!(finish(vec![3.0, 4.0], Some(9)), [0.6, 0.8]);
        assert_eq!(finish(vec![0.0], None), [0.0]);
    }
}
