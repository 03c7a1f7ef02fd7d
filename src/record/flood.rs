//! Floods of refusals: the first few of a minute have rows of their own, the rest stand in rows with a count.
//!
//! Takes rows of refusals; promises that what strangers cause (nobody with a key) is at most [`STRANGERS`] rows and one more in a minute,
//! for all of them together, however many addresses they have. Nothing is lost but detail: the counts add up.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::store::audit::AuditRow;

/// Rows of one key or address, route and status in a minute.
const FIRST: u64 = 10;
/// Different ones of strangers in a minute; beyond it all stand in one row. Keys are given out by the operator, and are counted each.
const MOST: usize = 4_096;
/// Rows of all strangers together in a minute.
const STRANGERS: usize = 600;
/// Kept of those for the addresses that were refused most, with their counts.
const LOUDEST: usize = 100;

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
    minute: Option<i64>,
    seen: HashMap<Who, (u64, Option<AuditRow>)>,
    /// How many of them are of strangers.
    kinds: usize,
    /// Rows that strangers had of their own.
    strangers: usize,
    others: Option<AuditRow>,
}

impl Flood {
    /// The row itself while it is one of the first; otherwise it is counted.
    pub(super) fn row(&mut self, row: AuditRow) -> Option<AuditRow> {
        let key = row.key_id.clone();
        let is_stranger = key.is_none();
        // A key is a key from whatever address.
        let peer = if is_stranger { row.peer } else { None };
        let who = Who { key, peer, route: row.route.clone(), status: row.status };
        if is_stranger && self.kinds >= MOST && !self.seen.contains_key(&who) {
            self.count(&row);
            return None;
        }
        self.kinds += usize::from(is_stranger && !self.seen.contains_key(&who));
        let (seen, counted) = self.seen.entry(who).or_default();
        *seen += row.count;
        let has_room = !is_stranger || self.strangers < STRANGERS - LOUDEST;
        if *seen <= FIRST && has_room {
            self.strangers += usize::from(is_stranger);
            return Some(row);
        }
        match counted {
            Some(counted) => counted.count += row.count,
            None => *counted = Some(row),
        }
        None
    }

    /// Counts a row among those of whom nothing more is kept.
    fn count(&mut self, row: &AuditRow) {
        let others = self.others.get_or_insert_with(|| AuditRow {
            peer: None,
            key_id: None,
            method: "-".into(),
            route: "-".into(),
            model: None,
            status: 0,
            reason: Some("refusals beyond the rows of this minute, of any kind and address".into()),
            count: 0,
            ..row.clone()
        });
        others.count += row.count;
    }

    /// Rows of what was counted, once its minute is over (or now, where there will be no later).
    pub(super) fn turn(&mut self, minute: i64, last: bool) -> Vec<AuditRow> {
        // The first minute begins with the first look.
        let before = self.minute.replace(minute);
        if before.is_none_or(|before| before == minute) && !last {
            return Vec::new();
        }
        let counted: Vec<_> = self.seen.drain().filter_map(|(_, (_, counted))| counted).collect();
        let (mut strangers, mut rows): (Vec<_>, Vec<_>) =
            counted.into_iter().partition(|row| row.key_id.is_none());
        strangers.sort_by_key(|row| std::cmp::Reverse(row.count));
        let room = STRANGERS.saturating_sub(self.strangers);
        for quiet in strangers.drain(room.min(strangers.len())..) {
            self.count(&quiet);
        }
        (self.kinds, self.strangers) = (0, 0);
        rows.extend(strangers);
        rows.extend(self.others.take());
        rows.into_iter().map(several).collect()
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
    fn strangers_have_a_ceiling_for_all_of_them_together() {
        let mut flood = Flood::default();
        assert!(flood.turn(0, false).is_empty());
        // Thousands of addresses with a few requests each, one of them louder.
        let mut own = 0;
        for n in 0..10 {
            own += (0..4_000).filter_map(|peer| flood.row(refused(peer))).count();
            own += (0..n).filter_map(|_| flood.row(refused(7))).count();
        }
        let rows = flood.turn(1, false);
        assert!(own + rows.len() <= STRANGERS + 1, "{own} and {}", rows.len());
        assert_eq!(
            own as u64 + rows.iter().map(|row| row.count).sum::<u64>(),
            40_045,
            "every one is counted"
        );
        let loudest = rows.iter().find(|row| row.peer == Some(IpAddr::V4(7.into())));
        assert!(loudest.is_some_and(|row| row.count > 40), "whoever knocks most is named");
        assert!(flood.row(refused(1)).is_some(), "the next minute has room again");
    }

    #[test]
    fn known_keys_have_their_rows_whatever_strangers_do() {
        let mut flood = Flood::default();
        (0..6_000).for_each(|peer| drop(flood.row(refused(peer))));
        let known = AuditRow { key_id: Some("Ab12Cd34".into()), status: 429, ..refused(9) };
        assert!(flood.row(known).is_some());
    }

    #[test]
    fn many_addresses_are_bounded() {
        let mut flood = Flood::default();
        let own = (0..100_000).filter_map(|peer| flood.row(refused(peer))).count();
        assert_eq!((own, flood.seen.len()), (STRANGERS - LOUDEST, MOST));
        let rows = flood.turn(0, true);
        assert_eq!(rows.len(), LOUDEST + 1);
        assert_eq!(own as u64 + rows.iter().map(|row| row.count).sum::<u64>(), 100_000);
    }
}
