//! Rows of the audit as people and programs read them.

use serde_json::{Value, json};

use super::stamp;
use crate::store::audit::{AuditRow, Chained};

/// A row with its place in the chain.
pub fn as_json(chained: &Chained) -> Value {
    let mut value = facts(&chained.row);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("seq".into(), chained.seq.into());
        fields.insert("segment".into(), chained.segment.as_str().into());
        fields.insert("n".into(), chained.n.into());
    }
    value
}

/// A row that has no place there yet: `seq` is null.
pub fn facts(row: &AuditRow) -> Value {
    let id = row.request_id;
    json!({
        "seq": Value::Null,
        "time": at(row.time),
        "request_id": if id == 0 { Value::Null } else { format!("{id:016x}").into() },
        "key_id": row.key_id.as_deref(),
        "peer": row.peer.map(|peer| peer.to_string()),
        "method": row.method,
        "route": row.route,
        "model": row.model.as_deref(),
        "dialect": row.dialect,
        "stream": row.stream,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "prompt_tokens": row.prompt_tokens,
        "output_tokens": row.output_tokens,
        "estimated": row.estimated,
        "queue_ms": row.queue_ms,
        "first_ms": row.first_ms,
        "total_ms": row.total_ms,
        "gpu_ms": row.gpu_ms,
        "upstream": row.upstream,
        "status": row.status,
        "ending": row.ending,
        "reason": row.reason,
        "count": row.count,
        "action": row.action.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
        "segment": Value::Null,
        "n": Value::Null,
    })
}

/// Milliseconds since 1970 as RFC 3339 with milliseconds.
pub fn at(millis: i64) -> String {
    let mut text = stamp::of(millis.div_euclid(1_000));
    text.truncate(19);
    format!("{text}.{:03}Z", millis.rem_euclid(1_000))
}
