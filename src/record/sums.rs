//! Sums by day, key and model, gathered from rows between two commits. Models that no upstream has stand together as `other`: a caller who
//! invents names makes no rows.

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

/// Models that no upstream has.
const OTHER: &str = "other";

type SumOf = (i64, Option<Arc<str>>, Option<Arc<str>>);

impl Sums {
    /// Adds a row; `listed`: an upstream has its model.
    pub(super) fn add(&mut self, row: &AuditRow, listed: bool) {
        let day = row.time.div_euclid(86_400_000);
        let model = row.model.as_deref().map(|model| if listed { model } else { OTHER });
        let is = |(of, _): &(SumOf, UsageRow)| of.0 == day && of.1 == row.key_id && of.2.as_deref() == model;
        if !self.last.as_ref().is_some_and(is) {
            self.gather();
        }
        let of = || {
            let model = if listed { row.model.clone() } else { model.map(Into::into) };
            ((day, row.key_id.clone(), model), UsageRow::default())
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit::Begin;

    #[test]
    fn invented_models_are_summed_together() {
        let mut sums = Sums::default();
        let row = |model: &str| {
            let begin = Begin {
                request_id: 1,
                time: 0,
                key_id: Some("k".into()),
                peer: None,
                method: "POST".into(),
                route: "/chat".into(),
                model: Some(model.into()),
                stream: false,
            };
            AuditRow { status: 404, ending: "refused".into(), ..begin.interrupted() }
        };
        for n in 0..5_000 {
            sums.add(&row(&format!("invented-{n}")), false);
        }
        sums.add(&row("alpha:latest"), true);
        let mut rows: Vec<_> = sums.rows().into_iter().map(|row| (row.model, row.requests)).collect();
        rows.sort();
        assert_eq!(rows, [("alpha:latest".to_owned(), 1), ("other".to_owned(), 5_000)]);
    }
}
