//! A generation from prompt to last token.
//!
//! Takes a generation and a session and says every piece of text as it comes. Ends with the model's end of
//! text, a stop text, the number of tokens asked for, a full context, or the caller's leaving.

use llama_cpp_2::token::LlamaToken;
use tokio::time::Instant;

use super::grammar;
use super::job::{Event, Generation, Logprob, Summary};
use super::logprobs;
use super::outlet::Outlet;
use super::prompt;
use super::sampler::Sampler;
use super::session::{Halt, Session};
use super::text::{Checked, Stops, Utf8};
use crate::stats::{Speed, Stats};

/// Generates; returns the summary without its total and load times.
///
/// `tokens` is counted up as tokens come, so that it is right however this ends.
pub fn run(
    session: &mut Session<'_>,
    generation: &Generation,
    default_stops: &[&str],
    outlet: &Outlet,
    stats: &Stats,
    tokens: &mut u64,
) -> Result<Summary, Halt> {
    let prompt = prompt::tokens(session.model, generation, session.asked)?;
    let gbnf = grammar::of_format(&generation.format)?;
    let window = session.context.n_ctx();
    let sampler = Sampler::new(session.model, &generation.options, gbnf.as_deref(), window, &prompt)?;
    let begun = Instant::now();
    session.prefill(&prompt, outlet)?;
    stats.prompt(prompt.len());
    let prefilled = Instant::now();
    let stops = match generation.options.stop.as_slice() {
        [] => default_stops.iter().map(|stop| (*stop).to_owned()).collect(),
        stops => stops.to_vec(),
    };
    let mut writer = Writer {
        outlet,
        utf8: Utf8::default(),
        stops: Stops::new(stops),
        logprobs: Vec::new(),
        top: generation.logprobs,
    };
    let mut answer = Vec::new();
    let reason = answer_tokens(session, sampler, generation, prompt.len(), &mut writer, &mut |token| {
        answer.push(token);
        *tokens += 1;
        stats.token();
    })?;
    let (prompt_time, eval_time) = (prefilled - begun, prefilled.elapsed());
    stats.speed(Speed {
        prompt_per_s: per_second(prompt.len() as u64, prompt_time),
        tokens_per_s: per_second(*tokens, eval_time),
    });
    let context = generation.context.is_some().then(|| prompt.iter().chain(&answer).map(|t| t.0).collect());
    Ok(Summary {
        reason,
        context,
        prompt_eval_count: prompt.len() as u64,
        prompt_eval_duration: nanos(prompt_time),
        eval_count: *tokens,
        eval_duration: nanos(eval_time),
        ..Summary::default()
    })
}

/// The loop over tokens; returns why it ended.
fn answer_tokens(
    session: &mut Session<'_>,
    mut sampler: Sampler,
    generation: &Generation,
    prompt: usize,
    writer: &mut Writer<'_>,
    count: &mut dyn FnMut(LlamaToken),
) -> Result<&'static str, Halt> {
    let model = session.model;
    let vocab = model.vocab();
    let asked = usize::try_from(generation.options.num_predict).ok().filter(|n| *n > 0);
    let room = (session.context.n_ctx() as usize).saturating_sub(prompt).max(1);
    let most = asked.map_or(room, |asked| asked.min(room));
    for place in prompt.. {
        writer.outlet.wanted()?;
        let Some(token) = sampler.next(&session.context) else {
            writer.finish()?;
            return Ok("stop");
        };
        count(token);
        let control = vocab.is_control(token)
            && writer.stops.contains(&String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)));
        if vocab.is_eog(token) || control {
            writer.finish()?;
            return Ok("stop");
        }
        if let Some(top) = writer.top {
            let logits = session.context.get_logits_ith(-1);
            writer.logprobs.push(logprobs::of_token(logits, &vocab, token, top));
        }
        if writer.write(&vocab.token_to_piece(token, false, None))? {
            return Ok("stop");
        }
        if place + 1 - prompt >= most {
            break;
        }
        session.step(token, place)?;
    }
    writer.finish()?;
    Ok("length")
}

/// Turns bytes of tokens into pieces that may be sent, and sends them.
struct Writer<'o> {
    outlet: &'o Outlet,
    utf8: Utf8,
    stops: Stops,
    logprobs: Vec<Logprob>,
    top: Option<usize>,
}

impl Writer<'_> {
    /// Takes a token's bytes; tells whether a stop text came.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, Halt> {
        let text = self.utf8.push(bytes);
        let (text, stopped) = match self.stops.push(&text) {
            Checked::Send(text) => (text, false),
            Checked::Stop(text) => (text, true),
        };
        self.send(text)?;
        Ok(stopped)
    }

    /// Sends what was held back in case it was a stop text. Half a character is never sent.
    fn finish(&mut self) -> Result<(), Halt> {
        let stops = std::mem::replace(&mut self.stops, Stops::new(Vec::new()));
        self.send(stops.finish())
    }

    fn send(&mut self, text: String) -> Result<(), Halt> {
        if !text.is_empty() {
            self.outlet.say(Event::Piece(text, std::mem::take(&mut self.logprobs)))?;
        }
        Ok(())
    }
}

/// A duration as the wire has it.
pub fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a speed for people")]
fn per_second(count: u64, time: std::time::Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}
