//! Floods of refusals: the first few of a minute have rows of their own, the rest one row with a count.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::store::audit::AuditRow;

/// Rows of one key or address, route and status in a minute.
const FIRST: u64 = 10;
/// Different ones in a minute; beyond it all stand in one row.
const MOST: usize = 4_096;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Who {
    key: Option<Arc<str>>,
    peer: Option<IpAddr>,
    route: Cow<'static, str>,
    status: u16,
}

/// What came in the present minute.
#[derive(Debug, Default)]
pub(super) struct Flood {
    minute: i64,
    seen: HashMap<Who, (u64, Option<AuditRow>)>,
    others: Option<AuditRow>,
}

impl Flood {
    /// The row itself while it is one of the first; otherwise it is counted.
    pub(super) fn row(&mut self, row: AuditRow) -> Option<AuditRow> {
        let key = row.key_id.clone();
        // A key is a key from whatever address.
        let peer = if key.is_some() { None } else { row.peer };
        let who = Who { key, peer, route: row.route.clone(), status: row.status };
        if self.seen.len() >= MOST && !self.seen.contains_key(&who) {
            let others = self.others.get_or_insert_with(|| AuditRow {
                peer: None,
                key_id: None,
                count: 0,
                ..row.clone()
            });
            others.count += row.count;
            return None;
        }
        let (seen, counted) = self.seen.entry(who).or_default();
        *seen += row.count;
        if *seen <= FIRST {
            return Some(row);
        }
        match counted {
            Some(counted) => counted.count += row.count,
            None => *counted = Some(row),
        }
        None
    }

    /// Rows of what was counted, once its minute is over (or now, where there will be no later).
    pub(super) fn turn(&mut self, minute: i64, last: bool) -> Vec<AuditRow> {
        if minute == self.minute && !last {
            return Vec::new();
        }
        self.minute = minute;
        let counted = self.seen.drain().filter_map(|(_, (_, counted))| counted);
        counted.chain(self.others.take()).map(several).collect()
    }
}

/// A row that stands for several has no request of its own.
fn several(row: AuditRow) -> AuditRow {
    AuditRow { request_id: 0, ..row }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit::Begin;

    fn refused(peer: u32) -> AuditRow {
        let begin = Begin {
            request_id: 7,
            time: 0,
            key_id: None,
            peer: Some(IpAddr::V4(peer.into())),
            method: "POST".into(),
            route: "/chat".into(),
            model: None,
            stream: false,
        };
        AuditRow { status: 401, ending: "refused".into(), ..begin.interrupted() }
    }

    #[test]
    fn thousands_become_a_row_with_a_count() {
        let mut flood = Flood::default();
        let own = (0..5_000).filter_map(|_| flood.row(refused(1))).count();
        assert_eq!(own, 10);
        assert!(flood.row(refused(2)).is_some(), "another address has its own");
        assert!(flood.turn(0, false).is_empty(), "its minute is not over");
        let rows = flood.turn(1, false);
        assert_eq!((rows.len(), rows[0].count, rows[0].request_id), (1, 4_990, 0));
        assert!(flood.row(refused(1)).is_some());
    }

    #[test]
    fn many_addresses_are_bounded() {
        let mut flood = Flood::default();
        let own = (0..100_000).filter_map(|peer| flood.row(refused(peer))).count();
        assert_eq!(own, MOST);
        let rows = flood.turn(0, true);
        assert_eq!((rows.len(), rows[0].count, rows[0].peer), (1, 100_000 - 4_096, None));
    }
}
