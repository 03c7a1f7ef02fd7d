//! From turns or text to the tokens that the model reads.
//!
//! Takes a prompt and a context length and promises tokens that fit. What is too long loses its oldest turns
//! (never the system's), then its middle, as Ollama does it; where the caller forbids that, it is refused.

use llama_cpp_2::model::{LlamaChatMessage, LlamaChatTemplate, LlamaModel};
use llama_cpp_2::token::LlamaToken;

use super::job::{Generation, Prompt, Turn};
use crate::wire::Refusal;

/// The tokens of a generation's prompt, earlier context before it.
pub fn tokens(model: &LlamaModel, generation: &Generation, limit: u32) -> Result<Vec<LlamaToken>, Refusal> {
    let before = context(model, generation.context.as_deref().unwrap_or_default())?;
    let limit = limit as usize;
    let tokens = match &generation.prompt {
        Prompt::Raw(text) => tokenize(model, text),
        Prompt::Chat(turns) => fitting(model, turns, limit, generation.truncate)?,
    };
    let tokens = if before.is_empty() { tokens } else { [before, tokens].concat() };
    if tokens.len() < limit {
        // A model has to read something before it can write.
        return Ok(if tokens.is_empty() { vec![model.vocab().bos()] } else { tokens });
    }
    if !generation.truncate {
        return Err(too_long(tokens.len(), limit));
    }
    Ok(without_middle(&tokens, generation.options.num_keep, limit))
}

/// Turns as tokens, without the oldest ones where they do not fit.
fn fitting(model: &LlamaModel, turns: &[Turn], limit: usize, cut: bool) -> Result<Vec<LlamaToken>, Refusal> {
    let mut turns = turns.to_vec();
    loop {
        let tokens = tokenize(model, &render(model, &turns)?);
        let oldest = turns.iter().position(|turn| turn.role != "system").filter(|at| at + 1 < turns.len());
        match oldest {
            Some(at) if cut && tokens.len() >= limit => drop(turns.remove(at)),
            _ => return Ok(tokens),
        }
    }
}

fn tokenize(model: &LlamaModel, text: &str) -> Vec<LlamaToken> {
    // Text that spells a special token becomes that token, as with Ollama.
    model.vocab().tokenize(text.as_bytes(), true, true)
}

/// Turns in the model's own template, or in `ChatML` where it has none that llama.cpp knows.
fn render(model: &LlamaModel, turns: &[Turn]) -> Result<String, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::new(500, format!("chat template: {error}"));
    // A C string ends at its first zero byte.
    let text = |text: &str| text.replace('\0', "\u{fffd}");
    let message = |turn: &Turn| LlamaChatMessage::new(text(&turn.role), text(&turn.content));
    let messages = turns.iter().map(message).collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
    if let Ok(own) = model.chat_template(None)
        && let Ok(text) = model.apply_chat_template(&own, &messages, true)
    {
        return Ok(text);
    }
    let chatml = LlamaChatTemplate::new("chatml").map_err(|e| failed(&e))?;
    model.apply_chat_template(&chatml, &messages, true).map_err(|e| failed(&e))
}

/// Token numbers from a caller: each must be one of the model's.
fn context(model: &LlamaModel, ids: &[i64]) -> Result<Vec<LlamaToken>, Refusal> {
    let one = |id: &i64| {
        let id = i32::try_from(*id).ok().filter(|id| (0..model.n_vocab()).contains(id));
        id.map(LlamaToken::new)
            .ok_or_else(|| Refusal::new(500, "detokenize error: context has a token that the model lacks"))
    };
    ids.iter().map(one).collect()
}

fn too_long(count: usize, limit: usize) -> Refusal {
    let message = format!(
        "request ({count} tokens) exceeds the available context size ({limit} tokens), try increasing it"
    );
    let inner = serde_json::json!({"error": {
        "code": 400, "message": message, "type": "exceed_context_size_error", "n_prompt_tokens": count, "n_ctx": limit,
    }});
    Refusal::new(400, inner.to_string())
}

/// The first `keep` tokens and the last ones, so that half of the rest of the context is free for the answer.
fn without_middle<T: Clone>(tokens: &[T], keep: i64, limit: usize) -> Vec<T> {
    let keep = usize::try_from(keep).unwrap_or(limit / 2).min(limit / 2);
    let tail = ((limit - keep) / 2).max(1);
    let front = tokens.iter().take(keep);
    front.chain(tokens.iter().skip(tokens.len().saturating_sub(tail).max(keep))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_its_middle_fits() {
        let tokens: Vec<u32> = (0..3000).collect();
        let cut = without_middle(&tokens, 4, 512);
        assert_eq!((cut.len(), &cut[..5], cut.last()), (258, &[0, 1, 2, 3, 2746][..], Some(&2999)));
        for (keep, limit) in [(-1, 512), (100_000, 512), (0, 4), (4, 4), (-1, 4)] {
            let cut = without_middle(&tokens, keep, limit);
            assert!(!cut.is_empty() && cut.len() < limit, "{keep} {limit} {}", cut.len());
        }
    }
}
