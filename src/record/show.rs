//! Rows of the audit as people and programs read them.

use serde_json::{Value, json};

use super::stamp;
use crate::store::audit::{AuditRow, Chained};

/// A row with its place in the chain.
pub fn as_json(chained: &Chained) -> Value {
    let AuditRow { time, request_id, .. } = chained.row;
    let row = &chained.row;
    json!({
        "seq": chained.seq,
        "time": at(time),
        "request_id": if request_id == 0 { Value::Null } else { format!("{request_id:016x}").into() },
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
        "segment": chained.segment,
        "n": chained.n,
    })
}

/// Milliseconds since 1970 as RFC 3339 with milliseconds.
pub fn at(millis: i64) -> String {
    let mut text = stamp::of(millis.div_euclid(1_000));
    text.truncate(19);
    format!("{text}.{:03}Z", millis.rem_euclid(1_000))
}
