//! Ollama's native routes: from a request that was read to what is answered.
//!
//! Order as in Ollama: the path is cleaned, CORS and Host are checked, the router picks, the handler answers. Promises
//! statuses, header names, types, shapes and error texts as recorded. The `/v1` routes are not served: 404.

pub(crate) mod answer;
pub(crate) mod catalog;
pub(crate) mod embed;
pub(crate) mod gate;
pub(crate) mod infer;
pub(crate) mod manage;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod pull;
pub(crate) mod reply;
pub(crate) mod routes;

use crate::script::Script;
use catalog::{Catalog, Entry};
use names::Name;
use reply::{Refusal, Reply};
use std::sync::Arc;

/// What the routes know of the server.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) version: String,
    /// Cloud models are answered, not refused.
    pub(crate) cloud: bool,
    /// What a pull finds in its registry.
    pub(crate) pullable: Vec<String>,
}

/// A request, as far as the routes care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) host: &'a str,
    pub(crate) origin: Option<&'a str>,
    pub(crate) body: &'a [u8],
    pub(crate) script: &'a Script,
}

impl World {
    /// Answers a request.
    pub(crate) fn answer(&self, ask: &Ask<'_>) -> Reply {
        routes::answer(self, ask)
    }

    /// The model of that spelling; cloud names and strangers are refused with the caller's words for it.
    fn find(
        &self,
        text: &str,
        cloud: &str,
        missing: impl Fn(&Name) -> Refusal,
    ) -> Result<Arc<Entry>, Refusal> {
        let name = Name::parse(text).ok_or_else(|| Refusal::new(400, "invalid model name"))?;
        if name.cloud && !self.cloud {
            return Err(Refusal::new(403, cloud));
        }
        let entry = self.catalog.find(&name.key()).ok_or_else(|| missing(&name))?;
        if entry.model.remote.is_some() && !self.cloud {
            return Err(Refusal::new(403, cloud));
        }
        Ok(entry)
    }
}

/// Text for a cloud model where the cloud is switched off.
const NO_CLOUD: &str = "ollama cloud is disabled: remote model is unavailable";
/// The same for its description.
const NO_CLOUD_DETAILS: &str = "ollama cloud is disabled: remote model details are unavailable";
