//! `options` of a request: sampling, lengths and stops.
//!
//! Takes the map and promises every value in its type (whole numbers may be written as fractions and are cut,
//! `null` and unknown keys are skipped). It refuses wrong types with Ollama's words and status 500, and a
//! `num_keep` below -1 with 400.

use serde_json::{Map, Value};

use super::Refusal;

/// The options with Ollama's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Context length asked for.
    pub num_ctx: Option<i64>,
    /// Tokens to generate at most; 0 and less mean until the context is full.
    pub num_predict: i64,
    /// Tokens kept at the front of a prompt that is cut.
    pub num_keep: i64,
    /// Temperature; 0 and less always take the likeliest token.
    pub temperature: f32,
    /// Only the k likeliest tokens; 0 and less: all.
    pub top_k: i32,
    /// Only the likeliest tokens that make up this probability.
    pub top_p: f32,
    /// Only tokens at least this likely, relative to the likeliest.
    pub min_p: f32,
    /// Locally typical sampling; 1 is off.
    pub typical_p: f32,
    /// How far back repetition is looked for; -1 is the whole context.
    pub repeat_last_n: i32,
    /// Penalty for repeated tokens; 1 is off.
    pub repeat_penalty: f32,
    /// Penalty for tokens that occurred.
    pub presence_penalty: f32,
    /// Penalty by how often tokens occurred.
    pub frequency_penalty: f32,
    /// Seed of the random numbers; -1 is a new one each time.
    pub seed: i64,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            num_ctx: None,
            num_predict: -1,
            num_keep: 4,
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: -1,
            stop: Vec::new(),
        }
    }
}

impl Options {
    /// Reads the map.
    pub fn read(map: &Map<String, Value>) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            options.set(key, value)?;
        }
        if options.num_keep < -1 {
            let text = format!(
                "Field 'n_keep': Value must be between -1 <= value <= 2147483647, but got {}",
                options.num_keep
            );
            return Err(Refusal::nested(400, "invalid_request_error", &text));
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), Refusal> {
        match key {
            "num_ctx" => self.num_ctx = Some(int(key, value)?),
            "num_predict" => self.num_predict = int(key, value)?,
            "num_keep" => self.num_keep = int(key, value)?,
            "temperature" => self.temperature = float(key, value)?,
            "top_k" => self.top_k = small(key, value)?,
            "top_p" => self.top_p = float(key, value)?,
            "min_p" => self.min_p = float(key, value)?,
            "typical_p" => self.typical_p = float(key, value)?,
            "repeat_last_n" => self.repeat_last_n = small(key, value)?,
            "repeat_penalty" => self.repeat_penalty = float(key, value)?,
            "presence_penalty" => self.presence_penalty = float(key, value)?,
            "frequency_penalty" => self.frequency_penalty = float(key, value)?,
            "seed" => self.seed = int(key, value)?,
            "stop" => self.stop = texts(key, value)?,
            // What concerns Ollama's hardware (`num_gpu`, `num_thread`, …) is checked for its type only.
            "num_batch" | "num_gpu" | "main_gpu" | "num_thread" | "draft_num_predict" => {
                int(key, value)?;
            }
            "use_mmap" if !value.is_boolean() => return Err(wrong(key, "boolean")),
            _ => {}
        }
        Ok(())
    }
}

fn wrong(key: &str, wanted: &str) -> Refusal {
    Refusal::new(500, format!("option {key:?} must be of type {wanted}"))
}

#[expect(clippy::cast_possible_truncation, reason = "cutting is what Ollama does, and the cast saturates")]
fn int(key: &str, value: &Value) -> Result<i64, Refusal> {
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64)).ok_or_else(|| wrong(key, "integer"))
}

fn small(key: &str, value: &Value) -> Result<i32, Refusal> {
    let int = int(key, value)?;
    Ok(i32::try_from(int).unwrap_or(if int < 0 { i32::MIN } else { i32::MAX }))
}

#[expect(clippy::cast_possible_truncation, reason = "the sampler takes 32-bit floats")]
fn float(key: &str, value: &Value) -> Result<f32, Refusal> {
    let float = value.as_f64().ok_or_else(|| wrong(key, "float32"))? as f32;
    // Nothing infinite goes into the sampler.
    Ok(float.clamp(f32::MIN, f32::MAX))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, Refusal> {
    let list = value.as_array().ok_or_else(|| wrong(key, "array"))?;
    let one = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "array"));
    // An empty stop would end every answer before it begins.
    Ok(list.iter().map(one).collect::<Result<Vec<_>, _>>()?.into_iter().filter(|s| !s.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Options, Refusal> {
        Options::read(value.as_object().unwrap())
    }

    #[test]
    fn values_are_read_in_their_types() {
        let options = read(&json!({
            "temperature": 0, "num_predict": 4.9, "seed": 99_999_999_999_999_999_999.0, "top_k": null,
            "stop": ["a", ""], "banana": 1, "NUM_CTX": 5, "use_mmap": true, "min_p": 1e300
        }))
        .unwrap();
        let expected = Options {
            temperature: 0.0,
            num_predict: 4,
            seed: i64::MAX,
            stop: vec!["a".into()],
            min_p: f32::MAX,
            ..Options::default()
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn wrong_types_are_refused() {
        let text = |value| read(&value).unwrap_err();
        assert_eq!(
            text(json!({"temperature": "hot"})),
            Refusal::new(500, "option \"temperature\" must be of type float32")
        );
        assert_eq!(
            text(json!({"num_ctx": "big"})),
            Refusal::new(500, "option \"num_ctx\" must be of type integer")
        );
        assert_eq!(text(json!({"stop": "x"})).status, 500);
        let keep = text(json!({"num_keep": -5}));
        assert!(keep.status == 400 && keep.text.contains("n_keep"), "{keep:?}");
    }
}
