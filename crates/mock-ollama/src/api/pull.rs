//! `/api/pull`, `/api/push` and `/api/create`: progress in lines, or its last word where `stream` is false.
//!
//! No network stands behind them: a pull finds what the catalogue has and what the builder named, and otherwise fails as it does on a
//! machine that is offline, after its first line and so with status 200.

use super::catalog::Model;
use super::manage::{add_copy, digest, read};
use super::names::Name;
use super::reply::{BARE_JSON, Refusal, Reply, Whole, error_object};
use super::{Ask, World};
use crate::go::fields::{Fields, Kind, Shape};
use serde_json::json;

const PULL: Shape = Shape {
    name: "PullRequest",
    fields: &[("model", Kind::Text), ("name", Kind::Text), ("insecure", Kind::Flag), ("stream", Kind::Flag)],
};
const CREATE: Shape = Shape {
    name: "CreateRequest",
    fields: &[
        ("model", Kind::Text),
        ("name", Kind::Text),
        ("from", Kind::Text),
        ("files", Kind::Any),
        ("system", Kind::Text),
        ("template", Kind::Text),
        ("stream", Kind::Flag),
    ],
};

/// What has been said so far, and how it ended.
struct Progress {
    lines: Vec<String>,
    failure: Option<String>,
}

impl Progress {
    fn of(lines: impl IntoIterator<Item = String>) -> Self {
        let lines = lines.into_iter().map(|status| json!({ "status": status }).to_string()).collect();
        Self { lines, failure: None }
    }

    fn reply(mut self, fields: &Fields) -> Reply {
        let streamed = fields.flag("stream") != Some(false);
        match self.failure {
            Some(text) if !streamed => {
                Whole { content_type: Some(BARE_JSON), ..Whole::error(500, &text) }.into()
            }
            Some(text) => {
                self.lines.push(String::from_utf8(error_object(&text)).unwrap_or_default());
                Reply::Lines(self.lines)
            }
            None if streamed => Reply::Lines(self.lines),
            None => {
                let last = self.lines.pop().unwrap_or_default();
                Whole { content_type: Some(BARE_JSON), ..Whole::json(200, last) }.into()
            }
        }
    }
}

fn named(fields: &Fields) -> Result<Name, Refusal> {
    Name::parse(fields.model()).ok_or_else(|| Refusal::new(400, "invalid model name"))
}

pub(super) fn pull(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = read(ask, &PULL)?;
    let name = named(&fields)?;
    let mut progress = Progress::of(["pulling manifest".to_owned()]);
    let offered =
        world.pullable.iter().filter_map(|name| Name::parse(name)).any(|offer| offer.key() == name.key());
    if !offered && world.catalog.find(&name.key()).is_none() {
        progress.failure = Some(format!(
            "pull model manifest: Get {:?}: dial tcp: lookup {} on 127.0.0.53:53: no such host",
            name.manifest_url(),
            name.host()
        ));
        return Ok(progress.reply(&fields));
    }
    let layer = digest(name.key().as_bytes());
    let status = format!("pulling {}", layer.get(7..19).unwrap_or_default());
    for completed in [None, Some(49_181_372_u64), Some(98_362_745)] {
        let mut line = json!({ "status": status, "digest": layer, "total": 98_362_745 });
        if let (Some(completed), Some(members)) = (completed, line.as_object_mut()) {
            members.insert("completed".to_owned(), json!(completed));
        }
        progress.lines.push(line.to_string());
    }
    let rest = ["verifying sha256 digest", "writing manifest", "success"].map(str::to_owned);
    progress.lines.extend(Progress::of(rest).lines);
    if world.catalog.find(&name.key()).is_none() {
        world.catalog.add(Model::plain(&name.short()));
    }
    Ok(progress.reply(&fields))
}

pub(super) fn push(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = read(ask, &PULL)?;
    let name = named(&fields)?;
    let mut progress = Progress::of(["retrieving manifest".to_owned()]);
    if world.catalog.find(&name.key()).is_none() {
        progress.failure = Some(format!("model '{}' not found", fields.model()));
    } else {
        progress.lines.extend(Progress::of(["pushing manifest", "success"].map(str::to_owned)).lines);
    }
    Ok(progress.reply(&fields))
}

pub(super) fn create(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = read(ask, &CREATE)?;
    let name = named(&fields)?;
    let from = fields.text("from");
    if from.is_empty() && fields.get("files").is_none() {
        return Ok(Whole::early_error(400, "neither 'from' or 'files' was specified").into());
    }
    let source = Name::parse(from).and_then(|from| world.catalog.find(&from.key()));
    let model = source.map_or_else(|| Model::plain(&name.short()), |entry| entry.model.clone());
    let layer =
        |what: &str, salt: &str| format!("{what} layer {}", digest(format!("{from}{salt}").as_bytes()));
    let mut lines = vec![layer("using existing", "weights"), layer("using existing", "template")];
    if !fields.text("system").is_empty() {
        lines.push(layer("creating new", fields.text("system")));
    }
    lines.extend([
        layer("using existing", "parameters"),
        "writing manifest".to_owned(),
        "success".to_owned(),
    ]);
    add_copy(world, &model, &name);
    Ok(Progress::of(lines).reply(&fields))
}
