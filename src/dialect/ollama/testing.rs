//! What the tests of these files share.

use crate::config::{Limits, Options};
use crate::dialect::Call;
use crate::endpoint::Proxied;
use crate::types::{Caps, ModelName};
use crate::validate::{Rules, ValidateError};

/// The defaults of the configuration.
pub(super) fn rules() -> Rules {
    Rules {
        default_model: ModelName::parse("qwen3:4b").unwrap(),
        default_chosen: true,
        limits: Limits { body: 20 << 20, ..Limits::default() },
        options: Options {
            num_ctx: true,
            load_time: false,
            max_keep_alive: Some(std::time::Duration::from_hours(24)),
        },
        cloud_models: false,
    }
}

pub(super) fn under(route: Proxied, body: &str, rules: &Rules) -> Result<Call, ValidateError> {
    let (max_context, most) = (rules.limits.max_context, rules.limits.max_output_tokens);
    super::parse(
        route,
        body.as_bytes(),
        rules,
        Caps { max_context, max_output: most, fill_output: most, unload: false },
        &|| rules.default_model.clone(),
    )
}

pub(super) fn ok(route: Proxied, body: &str) -> Call {
    under(route, body, &rules()).unwrap_or_else(|error| panic!("{body:.200}: {error}"))
}

/// The text of the refusal.
pub(super) fn no(route: Proxied, body: &str) -> String {
    match under(route, body, &rules()) {
        Err(error) => error.to_string(),
        Ok(call) => panic!("{body:.200} passed as {}", String::from_utf8_lossy(&call.body)),
    }
}

/// The body that goes upstream, which must be strict JSON itself.
pub(super) fn sent(call: &Call) -> serde_json::Value {
    crate::validate::json::parse(&call.body).expect("strict JSON");
    serde_json::from_slice(&call.body).expect("JSON")
}
