//! A call in the making: the rules, the body so far, and what was dropped on the way.

use super::schema::{Field, Rule, WATCHED};
use super::{grammar, keep_alive, knobs, messages, options, tools};
use crate::dialect::{Call, Shape};
use crate::types::{Caps, InvalidName, ModelName, is_cloud_name};
use crate::validate::bounds::{self, At};
use crate::validate::json::{Entries, Json};
use crate::validate::object::{self, Dropped, get};
use crate::validate::writer::Body;
use crate::validate::{Rules, ValidateError, shown};

/// Bytes that a rebuilt body may need beyond the caller's: what is filled in, a canonical name, numbers spelled out.
const SPARE: usize = 256;
/// Of English text, measured with several vocabularies; the final object of the answer corrects it.
const BYTES_A_TOKEN: usize = 4;
/// What an image takes of a context, about.
const IMAGE_TOKENS: usize = 512;

/// What the parts of a route share.
pub(super) struct Draft<'r> {
    pub(super) rules: &'r Rules,
    /// Says which model a request gets that names none; asked by such a request alone.
    default: &'r dyn Fn() -> ModelName,
    /// Was it asked?
    by_default: bool,
    pub(super) caps: Caps,
    pub(super) body: Body,
    pub(super) dropped: Dropped,
    /// Images so far, in all messages together.
    pub(super) images: usize,
    /// Their bytes, in base64.
    pub(super) image_bytes: usize,
    /// What the schemas have cost so far, all together.
    pub(super) spent: grammar::Spent,
    /// Tokens of output at most, once that is known.
    pub(super) output: Option<u32>,
    /// Is there nothing to answer, so that `keep_alive` 0 would unload the model?
    pub(super) idle: bool,
    /// Does the route generate tokens, so that a limit on them is filled in?
    pub(super) generates: bool,
}

impl<'r> Draft<'r> {
    pub(super) fn new(
        rules: &'r Rules,
        caps: Caps,
        default: &'r dyn Fn() -> ModelName,
        received: usize,
    ) -> Self {
        let body = Body::object(received.saturating_add(SPARE));
        Self {
            rules,
            default,
            by_default: false,
            caps,
            body,
            dropped: Dropped::default(),
            images: 0,
            image_bytes: 0,
            spent: grammar::Spent::default(),
            output: None,
            idle: false,
            generates: false,
        }
    }

    /// Judges the keys of the top level.
    pub(super) fn vet(&mut self, top: &Entries<'_>, fields: &[Field]) -> Result<(), ValidateError> {
        let known = |key: &str| fields.iter().any(|(name, _)| *name == key);
        object::vet("", top, known, WATCHED, &mut self.dropped)
    }

    /// Reads and writes the model, the default one where none is named.
    pub(super) fn model(&mut self, top: &Entries<'_>) -> Result<ModelName, ValidateError> {
        if let Some(name) = named(top, "model")? {
            return self.put_model(parsed(name)?);
        }
        self.by_default = true;
        self.put_model((self.default)())
    }

    /// Reads and writes the model of `/api/show`, which must be named; `name` counts where `model` is empty.
    pub(super) fn shown_model(&mut self, top: &Entries<'_>) -> Result<ModelName, ValidateError> {
        let older = named(top, "name")?;
        let name = match named(top, "model")? {
            Some(name) => {
                if older.is_some() {
                    self.dropped.note("", "name");
                }
                name
            }
            None => older.ok_or_else(|| At::top("model").refuse("is required"))?,
        };
        self.put_model(parsed(name)?)
    }

    fn put_model(&mut self, name: ModelName) -> Result<ModelName, ValidateError> {
        if !self.rules.cloud_models && is_cloud_name(name.as_str()) {
            return Err(ValidateError::CloudModel);
        }
        self.body.member("model", name.as_str());
        Ok(name)
    }

    /// Reads `stream` and always writes it.
    pub(super) fn stream(&mut self, top: &Entries<'_>) -> Result<bool, ValidateError> {
        let stream = asks_stream(top)?;
        self.body.member("stream", &stream);
        Ok(stream)
    }

    /// Judges and writes the fields of a table, in its order.
    pub(super) fn fields(&mut self, top: &Entries<'_>, fields: &[Field]) -> Result<(), ValidateError> {
        for &(name, rule) in fields {
            match (rule, get(top, name)) {
                (Rule::Options, value) => options::write(self, value)?,
                (_, Some(value)) => self.field(name, rule, value)?,
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn field(&mut self, name: &'static str, rule: Rule, value: &Json<'_>) -> Result<(), ValidateError> {
        let at = At::top(name);
        match rule {
            Rule::Text => self.body.member(name, bounds::text(at, value)?),
            Rule::FilledText => match bounds::text(at, value)? {
                "" => {}
                text => self.body.member(name, text),
            },
            Rule::Flag => self.body.member(name, &bounds::flag(at, value)?),
            Rule::Int(least, most) => self.body.member(name, &bounds::integer(at, value, least, most)?),
            Rule::Format => knobs::format(self, at, value)?,
            Rule::Think => knobs::think(self, at, value)?,
            Rule::Images => knobs::images(self, at, value)?,
            Rule::Context => knobs::context(self, at, value)?,
            Rule::Input => knobs::input(self, at, value)?,
            Rule::Messages => messages::write(self, at, value)?,
            Rule::Tools => tools::write(self, at, value)?,
            Rule::KeepAlive => keep_alive::write(self, at, value)?,
            Rule::LoadFlag if self.rules.options.load_time => {
                self.body.member(name, &bounds::flag(at, value)?);
            }
            Rule::LoadFlag => self.dropped.note("", name),
            Rule::Refused => {
                if !bounds::text(at, value)?.is_empty() {
                    return Err(at.refuse("is not the caller's to set"));
                }
            }
            Rule::Options | Rule::Elsewhere => {}
        }
        Ok(())
    }

    /// Writes a value as it came, of at most so many bytes as JSON.
    pub(super) fn free(&mut self, at: At<'_>, value: &Json<'_>, most: usize) -> Result<(), ValidateError> {
        let start = self.body.len();
        self.body.value(value);
        match self.body.len().saturating_sub(start) {
            size if size > most => {
                Err(at.refuse(format!("must have at most {most} bytes of JSON, not {size}")))
            }
            _ => Ok(()),
        }
    }

    /// Closes the body: the call is ready.
    pub(super) fn finish(self, path: &'static str, shape: Shape, model: ModelName, stream: bool) -> Call {
        let body = self.body.finish();
        let text = body.len().saturating_sub(self.image_bytes) / BYTES_A_TOKEN;
        let prompt = text.saturating_add(self.images.saturating_mul(IMAGE_TOKENS));
        // Where there is nothing to answer, there is nothing to reserve.
        let tokens = if self.idle { (0, 0) } else { (prompt as u64, u64::from(self.output.unwrap_or(0))) };
        let (by_default, dropped) = (self.by_default, self.dropped.into_names());
        Call { path, shape, model, by_default, stream, body, dropped, tokens }
    }
}

/// What the caller says about streaming: true where nothing.
pub(super) fn asks_stream(top: &Entries<'_>) -> Result<bool, ValidateError> {
    get(top, "stream").map_or(Ok(true), |value| bounds::flag(At::top("stream"), value))
}

/// A model's name, where there is more than blanks.
fn named<'t>(top: &'t Entries<'_>, field: &str) -> Result<Option<&'t str>, ValidateError> {
    let name = get(top, field).map(|value| bounds::text(At::top(field), value)).transpose()?;
    Ok(name.filter(|name| !name.trim().is_empty()))
}

fn parsed(name: &str) -> Result<ModelName, ValidateError> {
    ModelName::parse(name)
        .map_err(|InvalidName| ValidateError::ModelName(format!("invalid model name {}", shown(name))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ok, rules, sent, under};
    use super::*;
    use crate::endpoint::Proxied;

    #[test]
    fn the_default_model_stands_in() {
        let routes =
            [Proxied::Chat, Proxied::Generate, Proxied::ChatApi, Proxied::Embed, Proxied::Embeddings];
        for route in routes {
            for model in ["", r#","model":null"#, r#","model":"""#, r#","model":" ""#] {
                let call = ok(route, &format!("{{\"prompt\":\"p\"{model}}}"));
                assert_eq!((call.model.as_str(), &sent(&call)["model"]), ("qwen3:4b", &"qwen3:4b".into()));
            }
        }
        let missing = under(Proxied::Show, "{}", &rules()).unwrap_err();
        assert_eq!(missing.to_string(), "model: is required");
    }

    #[test]
    fn cloud_names_need_the_operator() {
        let mut rules = rules();
        for body in [r#"{"model":"a:cloud"}"#, r#"{"model":"N/A:7B-Cloud"}"#] {
            assert_eq!(under(Proxied::Chat, body, &rules).unwrap_err(), ValidateError::CloudModel);
        }
        rules.cloud_models = true;
        assert_eq!(under(Proxied::Chat, r#"{"model":"a:cloud"}"#, &rules).unwrap().model.as_str(), "a:cloud");
        rules.cloud_models = false;
        rules.default_model = ModelName::parse("a:cloud").unwrap();
        assert_eq!(under(Proxied::Chat, "{}", &rules).unwrap_err(), ValidateError::CloudModel);
    }

    #[test]
    fn show_takes_the_older_name() {
        let call =
            ok(Proxied::Show, r#"{"name":"LLAMA3","model":"","verbose":true,"system":"","template":""}"#);
        assert_eq!(sent(&call), serde_json::json!({"model": "llama3:latest", "verbose": true}));
        let call = ok(Proxied::Show, r#"{"name":"evil","model":"good"}"#);
        assert_eq!(sent(&call), serde_json::json!({"model": "good:latest"}));
        assert_eq!(call.dropped, ["name"]);
    }
}
