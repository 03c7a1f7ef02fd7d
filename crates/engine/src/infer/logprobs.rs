//! How likely tokens were: the logarithm of the softmax over all of them, before any sampler.

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use super::job::Logprob;

/// The likelihood of a token, and of the `top` likeliest beside it.
pub fn of_token(logits: &[f32], vocab: &LlamaVocab<'_>, token: LlamaToken, top: usize) -> Logprob {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let base = f64::from(highest) + sum.ln();
    let one = |token: LlamaToken, logit: f32| {
        let bytes = vocab.token_to_piece(token, true, None);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Logprob { token: text, logprob: f64::from(logit) - base, bytes, top_logprobs: Vec::new() }
    };
    let logit =
        usize::try_from(token.0).ok().and_then(|at| logits.get(at)).copied().unwrap_or(f32::NEG_INFINITY);
    let mut said = one(token, logit);
    let likeliest = likeliest(logits, top);
    said.top_logprobs = likeliest.into_iter().map(|(id, logit)| one(LlamaToken::new(id), logit)).collect();
    said
}

fn likeliest(logits: &[f32], top: usize) -> Vec<(i32, f32)> {
    let mut best: Vec<(i32, f32)> = Vec::with_capacity(top + 1);
    for (id, logit) in (0..).zip(logits.iter().copied()) {
        if best.len() == top && best.last().is_none_or(|worst| worst.1 >= logit) {
            continue;
        }
        let at = best.partition_point(|known| known.1 >= logit);
        best.insert(at, (id, logit));
        best.truncate(top);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(likeliest(&[0.0, 3.0, 1.0, 2.0], 2), [(1, 3.0), (3, 2.0)]);
        assert_eq!(likeliest(&[0.0, 3.0], 0), []);
        assert_eq!(likeliest(&[1.0], 3), [(0, 1.0)]);
    }
}
