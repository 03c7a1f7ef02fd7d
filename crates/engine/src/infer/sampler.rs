//! Which token comes next.
//!
//! Takes the options and promises llama.cpp's samplers in its usual order, ended by a greedy or a seeded draw.
//! With a grammar, the draw is checked against it first, and only a draw it forbids costs a second one over all
//! tokens: the same result as filtering before, at a fraction of the time.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use super::grammar;
use crate::wire::Refusal;
use crate::wire::options::Options;

/// llama.cpp draws a new seed for this one.
const RANDOM_SEED: u32 = u32::MAX;

/// The samplers of one generation.
#[derive(Debug)]
pub struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

impl Sampler {
    /// Samplers for these options; `prompt` counts for the penalties.
    pub fn new(
        model: &LlamaModel,
        options: &Options,
        gbnf: Option<&str>,
        window: u32,
        prompt: &[LlamaToken],
    ) -> Result<Self, Refusal> {
        let grammar = match gbnf {
            None => None,
            Some(gbnf) => Some(
                LlamaSampler::grammar(model, gbnf, "root")
                    .map_err(|error| grammar::refusal(&format!("failed to parse grammar: {error}")))?,
            ),
        };
        let mut chain = LlamaSampler::chain(parts(model, options, window), true);
        chain.accept_many(prompt);
        Ok(Self { chain, grammar })
    }

    /// The next token after what the context has read last; `None` where the grammar lets nothing follow.
    pub fn next(&mut self, context: &LlamaContext<'_>) -> Option<LlamaToken> {
        let mut all = context.token_data_array_ith(-1);
        all.apply_sampler(&mut self.chain);
        let mut token = all.selected_token()?;
        if let Some(grammar) = &mut self.grammar {
            if !allowed(grammar, token) {
                let mut all = context.token_data_array_ith(-1);
                all.apply_sampler(grammar);
                all.data.retain(|candidate| candidate.logit().is_finite());
                if all.data.is_empty() {
                    return None;
                }
                all.apply_sampler(&mut self.chain);
                token = all.selected_token()?;
            }
            grammar.try_accept(token).ok()?;
        }
        self.chain.accept(token);
        Some(token)
    }
}

fn allowed(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    one.apply_sampler(grammar);
    one.data.first().is_some_and(|candidate| candidate.logit().is_finite())
}

fn parts(model: &LlamaModel, options: &Options, window: u32) -> Vec<LlamaSampler> {
    let o = options;
    let last_n =
        if o.repeat_last_n < 0 { i32::try_from(window).unwrap_or(i32::MAX) } else { o.repeat_last_n };
    // The window is memory in llama.cpp; a caller's number must not be more than there are tokens.
    let last_n = last_n.min(i32::try_from(window).unwrap_or(i32::MAX));
    let penalties = LlamaSampler::penalties(
        model.n_vocab(),
        last_n,
        o.repeat_penalty,
        o.frequency_penalty,
        o.presence_penalty,
    );
    if o.temperature <= 0.0 {
        return vec![penalties, LlamaSampler::greedy()];
    }
    vec![
        penalties,
        LlamaSampler::top_k(o.top_k),
        LlamaSampler::typical(o.typical_p, 1),
        LlamaSampler::top_p(o.top_p, 1),
        LlamaSampler::min_p(o.min_p, 1),
        LlamaSampler::temp(o.temperature),
        LlamaSampler::dist(seed(o.seed)),
    ]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low 32 bits are the seed")]
fn seed(seed: i64) -> u32 {
    if seed < 0 { RANDOM_SEED } else { seed as u32 }
}
