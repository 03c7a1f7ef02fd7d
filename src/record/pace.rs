//! How long each model works on an answer: the mean of its last ones.

use std::collections::{BTreeMap, VecDeque};

use crate::store::audit::AuditRow;

/// Answers of a model that count.
const ANSWERS: usize = 32;
/// Models that are remembered; an upstream with more of them has some that count as unknown.
const MODELS: usize = 256;

/// By model.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<String, VecDeque<u64>>);

impl Pace {
    /// Counts an answer that was whole.
    pub(super) fn count(&mut self, row: &AuditRow) {
        let (Some(model), Some(worked), "done") = (&row.model, row.gpu_ms, &*row.ending) else { return };
        if let Some(last) = self.0.get_mut(&**model) {
            if last.len() == ANSWERS {
                last.pop_front();
            }
            last.push_back(worked);
        } else if self.0.len() < MODELS {
            let mut first = VecDeque::with_capacity(ANSWERS);
            first.push_back(worked);
            self.0.insert((**model).to_owned(), first);
        }
    }

    /// Milliseconds; `None` where nothing is known.
    pub(super) fn mean(&self, model: &str) -> Option<u64> {
        let last = self.0.get(model)?;
        last.iter().sum::<u64>().checked_div(last.len() as u64)
    }
}
