//! `options`: what of sampling and loading is the caller's to set.
//!
//! The table is the contract: every option that Ollama reads stands in it with its bound. Others are dropped by name.

use super::draft::Draft;
use super::knobs;
use crate::validate::ValidateError;
use crate::validate::bounds::{self, At};
use crate::validate::json::Json;
use crate::validate::object::{self, get};

/// Tokens of output, where no limit is configured.
const MAX_OUTPUT: u32 = 1_000_000;
/// Tokens of context, where no limit is configured.
const MAX_CONTEXT: u32 = 1_048_576;
/// Strings that end an answer.
const MAX_STOPS: usize = 64;
/// Characters of one.
const MAX_STOP: usize = 256;

/// How an option is judged. Bounds are included.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// A number.
    Real(f64, f64),
    /// A whole number.
    Int(i64, i64),
    /// A list of strings.
    Stops,
    /// Tokens of output: 0 and less are unset.
    Output,
    /// Tokens of context: may be the operator's.
    Context,
    /// A whole number that makes the model load again: the operator's, unless opened.
    LoadInt(i64, i64),
    /// A boolean of that kind.
    LoadFlag,
}

const OPTIONS: &[(&str, Bound)] = &[
    ("temperature", Bound::Real(0.0, 10.0)),
    ("top_p", Bound::Real(0.0, 1.0)),
    ("top_k", Bound::Int(-1, 1_000)),
    ("min_p", Bound::Real(0.0, 1.0)),
    ("typical_p", Bound::Real(0.0, 1.0)),
    ("seed", Bound::Int(i64::MIN, i64::MAX)),
    ("stop", Bound::Stops),
    ("num_predict", Bound::Output),
    ("num_ctx", Bound::Context),
    ("num_keep", Bound::Int(-1, 131_072)),
    ("repeat_last_n", Bound::Int(-1, 131_072)),
    ("repeat_penalty", Bound::Real(0.0, 10.0)),
    ("presence_penalty", Bound::Real(-10.0, 10.0)),
    ("frequency_penalty", Bound::Real(-10.0, 10.0)),
    ("num_gpu", Bound::LoadInt(-1, 1_024)),
    ("num_thread", Bound::LoadInt(0, 1_024)),
    ("num_batch", Bound::LoadInt(1, 65_536)),
    ("main_gpu", Bound::LoadInt(0, 255)),
    ("use_mmap", Bound::LoadFlag),
    ("draft_num_predict", Bound::LoadInt(0, 1_024)),
];

/// The names of the table, for the judgement of keys.
const NAMES: [&str; OPTIONS.len()] = {
    let mut names = [""; OPTIONS.len()];
    let mut index = 0;
    while index < names.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within the length above")]
        {
            names[index] = OPTIONS[index].0;
        }
        index += 1;
    }
    names
};

const AT: At<'_> = At::top("options");

/// Judges and writes `options`; fills in the limit on output where the caller named none.
pub(super) fn write(draft: &mut Draft<'_>, value: Option<&Json<'_>>) -> Result<(), ValidateError> {
    let fill = draft.caps.fill_output.filter(|most| *most > 0 && draft.generates);
    let entries = match value {
        Some(value) => bounds::object(AT, value)?,
        None if fill.is_none() => return Ok(()),
        None => &[],
    };
    object::vet("options", entries, |key| NAMES.contains(&key), &NAMES, &mut draft.dropped)?;
    let start = draft.body.len();
    draft.body.key("options");
    draft.body.open(b'{');
    let empty = draft.body.len();
    for &(name, bound) in OPTIONS {
        match (bound, get(entries, name)) {
            (Bound::Output, value) => output(draft, name, value, fill)?,
            (_, Some(value)) => option(draft, name, bound, value)?,
            (_, None) => {}
        }
    }
    if draft.body.len() == empty {
        draft.body.rewind(start);
    } else {
        draft.body.close(b'}');
    }
    Ok(())
}

fn option(
    draft: &mut Draft<'_>,
    name: &'static str,
    bound: Bound,
    value: &Json<'_>,
) -> Result<(), ValidateError> {
    let at = AT.field(name);
    match bound {
        Bound::Real(least, most) => {
            bounds::number(at, value, least, most)?;
            draft.body.member(name, value);
        }
        Bound::Int(least, most) => draft.body.member(name, &bounds::integer(at, value, least, most)?),
        Bound::Stops => {
            draft.body.key(name);
            knobs::texts(draft, at, value, MAX_STOPS, MAX_STOP)?;
        }
        Bound::Context if draft.rules.options.num_ctx => {
            let tokens = tokens(at, value, draft.caps.max_context, MAX_CONTEXT, "limits.max_context")?;
            draft.body.member(name, &tokens);
        }
        Bound::LoadInt(least, most) if draft.rules.options.load_time => {
            draft.body.member(name, &bounds::integer(at, value, least, most)?);
        }
        Bound::LoadFlag if draft.rules.options.load_time => {
            draft.body.member(name, &bounds::flag(at, value)?);
        }
        Bound::Context | Bound::LoadInt(..) | Bound::LoadFlag => draft.dropped.note("options", name),
        Bound::Output => {}
    }
    Ok(())
}

/// A number of tokens, within the operator's limit where there is one: the refusal names it.
fn tokens(
    at: At<'_>,
    value: &Json<'_>,
    limit: Option<u32>,
    most: u32,
    name: &str,
) -> Result<i64, ValidateError> {
    let limit = limit.filter(|limit| *limit > 0);
    let judged = bounds::integer(at, value, 1, i64::from(limit.unwrap_or(most)));
    judged.map_err(|error| match error {
        ValidateError::Field { field, ours, message } if limit.is_some() => {
            ValidateError::Field { field, ours, message: format!("{message} ({name})") }
        }
        other => other,
    })
}

/// `num_predict`: measured, Ollama answers 0 for ever, so 0 and less are taken as unset.
fn output(
    draft: &mut Draft<'_>,
    name: &'static str,
    value: Option<&Json<'_>>,
    fill: Option<u32>,
) -> Result<(), ValidateError> {
    let unset = value.and_then(bounds::whole).is_some_and(|tokens| tokens <= 0);
    match value {
        Some(value) if !unset => {
            let limit = draft.caps.max_output.map(|most| most.min(MAX_OUTPUT));
            let tokens = tokens(AT.field(name), value, limit, MAX_OUTPUT, "limits.max_output_tokens")?;
            draft.output = u32::try_from(tokens).ok();
            draft.body.member(name, &tokens);
        }
        _ => {
            if let Some(most) = fill {
                draft.output = fill;
                draft.body.member(name, &most);
                if unset {
                    draft.dropped.note("options", name);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{no, ok, rules, sent, under};
    use super::*;
    use crate::endpoint::Proxied::{Chat, ChatApi, Embed, Generate};

    fn with(option: &str) -> String {
        format!("{{\"prompt\":\"p\",\"options\":{{{option}}}}}")
    }

    #[test]
    fn every_bound_holds_at_its_limits() {
        for &(name, bound) in OPTIONS {
            let (inside, outside): (Vec<String>, Vec<String>) = match bound {
                Bound::Real(least, most) => (
                    vec![least.to_string(), most.to_string(), format!("{most:.1}"), (most / 2.0).to_string()],
                    vec![
                        (least - 0.01).to_string(),
                        (most + 0.01).to_string(),
                        "1e300".into(),
                        "-1e300".into(),
                    ],
                ),
                Bound::Int(i64::MIN, i64::MAX) => (
                    vec![i64::MIN.to_string(), i64::MAX.to_string()],
                    vec![u64::MAX.to_string(), "1e19".into()],
                ),
                Bound::Int(least, most) => (
                    vec![least.to_string(), (most - 1).to_string(), most.to_string(), format!("{most}.0")],
                    vec![(least - 1).to_string(), (most + 1).to_string(), "0.5".into()],
                ),
                Bound::Output => (
                    vec!["1".into(), "999999".into(), "1000000".into(), "1e6".into()],
                    vec!["1000001".into()],
                ),
                Bound::Context => {
                    (vec!["1".into(), "1048575".into(), "1048576".into()], vec!["0".into(), "1048577".into()])
                }
                Bound::Stops | Bound::LoadInt(..) | Bound::LoadFlag => continue,
            };
            for value in inside {
                let call = ok(Generate, &with(&format!("\"{name}\":{value}")));
                let got = sent(&call)["options"][name].as_f64().unwrap();
                assert_eq!(got.to_bits(), value.parse::<f64>().unwrap().to_bits(), "{name}: {value}");
                assert!(call.dropped.is_empty());
            }
            for value in outside.into_iter().chain(["\"1\"".into(), "true".into(), "[1]".into(), "{}".into()])
            {
                let text = no(Generate, &with(&format!("\"{name}\":{value}")));
                assert!(text.starts_with(&format!("options.{name}: must be ")), "{value}: {text}");
            }
            assert_eq!(sent(&ok(Generate, &with(&format!("\"{name}\":null")))).get("options"), None);
        }
    }

    #[test]
    fn stops_are_few_and_short() {
        let stops = |n: usize, chars: usize| {
            let stops = vec![format!("\"{}\"", "é".repeat(chars)); n];
            with(&format!("\"stop\":[{}]", stops.join(",")))
        };
        for (n, chars) in [(0, 1), (63, 1), (64, 255), (64, 256)] {
            assert_eq!(sent(&ok(Chat, &stops(n, chars)))["options"]["stop"].as_array().unwrap().len(), n);
        }
        assert!(no(Chat, &stops(65, 1)).starts_with("options.stop: must have at most 64 items"));
        assert!(no(Chat, &stops(1, 257)).starts_with("options.stop[0]: must have at most 256 characters"));
        assert!(no(Chat, &with("\"stop\":\"a\"")).starts_with("options.stop: must be a list"));
        assert!(no(Chat, &with("\"stop\":[1]")).starts_with("options.stop[0]: must be a string"));
    }

    #[test]
    fn output_is_filled_in_where_it_is_unset() {
        for unset in ["0", "-1", "-2.0", "-9223372036854775808"] {
            let call = ok(Generate, &with(&format!("\"num_predict\":{unset}")));
            assert_eq!((sent(&call).get("options"), call.dropped.len()), (None, 0), "{unset}");
        }
        let mut rules = rules();
        rules.limits.max_output_tokens = Some(100);
        for route in [Generate, ChatApi] {
            let call = under(route, "{\"prompt\":\"p\"}", &rules).unwrap();
            assert_eq!((&sent(&call)["options"]["num_predict"], call.dropped.len()), (&100.into(), 0));
            let call = under(route, &with("\"num_predict\":-1"), &rules).unwrap();
            assert_eq!(
                (&sent(&call)["options"]["num_predict"], &*call.dropped[0]),
                (&100.into(), "options.num_predict")
            );
            assert!(under(route, &with("\"num_predict\":100"), &rules).is_ok());
            let text = under(route, &with("\"num_predict\":101"), &rules).unwrap_err().to_string();
            assert_eq!(
                text,
                "options.num_predict: must be a whole number from 1 to 100, not 101 (limits.max_output_tokens)"
            );
        }
        assert_eq!(sent(&under(Chat, "{}", &rules).unwrap())["options"]["num_predict"], 100);
        assert_eq!(sent(&under(Embed, "{\"input\":\"p\"}", &rules).unwrap()).get("options"), None);
    }

    #[test]
    fn context_may_be_the_operators() {
        let mut rules = rules();
        rules.limits.max_context = Some(8192);
        assert!(under(Generate, &with("\"num_ctx\":8192"), &rules).is_ok());
        let text = under(Generate, &with("\"num_ctx\":8193"), &rules).unwrap_err().to_string();
        assert_eq!(
            text,
            "options.num_ctx: must be a whole number from 1 to 8192, not 8193 (limits.max_context)"
        );
        assert!(under(Generate, &with("\"num_ctx\":1"), &rules).is_ok());
        rules.options.num_ctx = false;
        let call = under(Generate, &with("\"num_ctx\":8193,\"top_k\":1"), &rules).unwrap();
        assert_eq!(sent(&call)["options"].to_string(), r#"{"top_k":1}"#);
        assert_eq!(call.dropped, ["options.num_ctx"]);
    }

    #[test]
    fn loading_is_the_operators_unless_opened() {
        let all = with(
            "\"num_gpu\":1,\"num_thread\":2,\"num_batch\":3,\"main_gpu\":0,\"use_mmap\":true,\"draft_num_predict\":4",
        );
        let call = ok(Generate, &all);
        assert_eq!((sent(&call).get("options"), call.dropped.len()), (None, 6));
        let mut rules = rules();
        rules.options.load_time = true;
        let call = under(Generate, &all, &rules).unwrap();
        assert_eq!((sent(&call)["options"].as_object().unwrap().len(), call.dropped.len()), (6, 0));
        for bad in [
            "\"num_gpu\":-2",
            "\"num_batch\":0",
            "\"use_mmap\":1",
            "\"num_thread\":\"8\"",
            "\"main_gpu\":1.5",
        ] {
            assert!(under(Generate, &with(bad), &rules).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_options_are_dropped_by_name_and_variants_refused() {
        let call = ok(Generate, &with("\"mirostat\":1,\"foo\":{\"a\":1},\"seed\":7"));
        assert_eq!(call.dropped, ["options.mirostat", "options.foo"]);
        assert_eq!(sent(&call)["options"].to_string(), r#"{"seed":7}"#);
        assert!(no(Chat, &with("\"Num_Ctx\":1")).contains("only by case"));
        assert!(no(Chat, &with("\"u\u{17f}e_mmap\":true")).contains("only by case"));
        for bad in ["[]", "\"x\"", "1", "true"] {
            assert!(
                no(Chat, &format!("{{\"options\":{bad}}}")).starts_with("options: must be an object"),
                "{bad}"
            );
        }
        assert!(sent(&ok(Chat, "{\"options\":null}")).get("options").is_none());
    }
}
