//! Sums by day, key and model, gathered from rows between two commits.

use std::collections::HashMap;
use std::sync::Arc;

use super::stamp;
use crate::store::audit::AuditRow;
use crate::store::usage::UsageRow;

/// Sums by day (its number since 1970), key and model.
#[derive(Debug, Default)]
pub(super) struct Sums {
    all: HashMap<SumOf, UsageRow>,
    /// What was added to last: mostly what is added to next.
    last: Option<(SumOf, UsageRow)>,
}

type SumOf = (i64, Option<Arc<str>>, Option<Arc<str>>);

impl Sums {
    pub(super) fn add(&mut self, row: &AuditRow) {
        let day = row.time.div_euclid(86_400_000);
        let is = |(of, _): &(SumOf, UsageRow)| of.0 == day && of.1 == row.key_id && of.2 == row.model;
        if !self.last.as_ref().is_some_and(is) {
            self.gather();
        }
        let of = || ((day, row.key_id.clone(), row.model.clone()), UsageRow::default());
        let (_, sum) = self.last.get_or_insert_with(of);
        add(sum, row);
    }

    fn gather(&mut self) {
        if let Some((of, sum)) = self.last.take() {
            self.all.entry(of).or_default().join(&sum);
        }
    }

    /// All, with their names: written out once a commit, not once a row.
    pub(super) fn rows(&mut self) -> Vec<UsageRow> {
        self.gather();
        self.all.iter().map(named).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.last.is_none()
    }
}

/// Adds a row to the sums of its day, key and model.
fn add(sum: &mut UsageRow, row: &AuditRow) {
    sum.requests += row.count;
    sum.prompt_tokens += row.prompt_tokens.unwrap_or(0);
    sum.output_tokens += row.output_tokens.unwrap_or(0);
    sum.gpu_ms += row.gpu_ms.unwrap_or(0);
    match &*row.ending {
        "refused" => sum.refused += row.count,
        "client_gone" => sum.cancelled += row.count,
        "error" | "timeout" | "interrupted" => sum.failed += row.count,
        _ => {}
    }
}

fn named(((day, key, model), sum): (&SumOf, &UsageRow)) -> UsageRow {
    let text = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("").to_owned();
    let day = stamp::day(day.saturating_mul(86_400));
    UsageRow { day, key_id: text(key), model: text(model), ..sum.clone() }
}
