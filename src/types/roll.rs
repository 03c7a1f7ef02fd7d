//! A map of whoever called lately, that forgets in small steps and never what still matters.
//!
//! Takes one entry after the other, from callers who may make up as many names as they like; promises that an insertion looks at a few
//! entries, however many there are, and that memory is bounded: where nothing can go, newcomers share a few entries by hash.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

/// Entries that one insertion looks at.
const STEPS: usize = 4;
/// Entries that newcomers share while the map is full.
const SHARED: usize = 64;

/// What forgetting an entry would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Nothing: there is nothing to remember.
    Nothing,
    /// Something, but less than memory without end.
    Little,
    /// It must not go.
    Live,
}

/// The map.
#[derive(Debug)]
pub struct Roll<K, V> {
    /// Asked on the way of every request, with names that callers choose: hashed quickly, from a seed that they do not know.
    map: HashMap<K, V, RandomState>,
    /// Each key once, the next to be looked at in front.
    order: VecDeque<K>,
    shared: Vec<V>,
    /// Beyond so many, what is worth nothing goes.
    many: usize,
    /// Beyond so many, what is worth little goes as well.
    most: usize,
    /// Entries that were looked at so far.
    looks: u64,
}

impl<K: Hash + Eq + Clone, V> Roll<K, V> {
    /// For `many` entries without a thought, and `most` in any case.
    pub fn new(many: usize, most: usize) -> Self {
        Self { map: HashMap::default(), order: VecDeque::new(), shared: Vec::new(), many, most, looks: 0 }
    }

    /// Every entry that somebody has alone.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.map.is_empty() && self.shared.is_empty()
    }

    /// Entries that were looked at so far, to make room.
    pub const fn looks(&self) -> u64 {
        self.looks
    }

    /// The entry of this key, where it has one of its own.
    pub fn find(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    /// The entry of this key, or the one that it shares.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.bucket(key);
        match self.map.get_mut(key) {
            Some(value) => Some(value),
            None => self.shared.get_mut(at),
        }
    }

    fn bucket(&self, key: &K) -> usize {
        if self.shared.is_empty() {
            return 0;
        }
        usize::try_from(self.map.hasher().hash_one(key) % SHARED as u64).unwrap_or(0)
    }

    /// The entry of this key, made where there is none; `always`: with one of its own, however many there are.
    pub fn entry(
        &mut self,
        key: &K,
        always: bool,
        worth: impl Fn(&K, &V) -> Worth,
        mut new: impl FnMut() -> V,
    ) -> Option<&mut V> {
        if !self.map.contains_key(key) {
            self.make_room(worth);
            if self.map.len() >= self.most && !always {
                if self.shared.is_empty() {
                    self.shared = (0..SHARED).map(|_| new()).collect();
                }
            } else {
                self.map.insert(key.clone(), new());
                self.order.push_back(key.clone());
            }
        }
        self.get_mut(key)
    }

    /// A few entries, wherever the last look ended.
    fn make_room(&mut self, worth: impl Fn(&K, &V) -> Worth) {
        for _ in 0..STEPS {
            if self.map.len() < self.many {
                return;
            }
            let Some(key) = self.order.pop_front() else { return };
            self.looks += 1;
            let goes = self.map.get(&key).is_none_or(|value| match worth(&key, value) {
                Worth::Nothing => true,
                Worth::Little => self.map.len() >= self.most,
                Worth::Live => false,
            });
            if goes {
                self.map.remove(&key);
            } else {
                self.order.push_back(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insertion_looks_at_a_few_and_forgets_nothing_that_matters() {
        let mut roll = Roll::<u32, Worth>::new(1_000, 2_000);
        let mut put = |key, worth| {
            let before = roll.looks();
            assert_eq!(roll.entry(&key, false, |_, worth| *worth, || worth), Some(&mut worth.clone()));
            (roll.looks() - before, roll.len())
        };
        for key in 0..500 {
            put(key, Worth::Live);
        }
        for key in 500..100_000 {
            let (looks, len) = put(key, if key % 2 == 0 { Worth::Little } else { Worth::Nothing });
            assert!(looks <= 4 && len <= 2_000, "{looks} looks among {len}");
        }
        assert!((0..500).all(|key| roll.get_mut(&key) == Some(&mut Worth::Live)));
    }

    #[test]
    fn where_all_matters_newcomers_share() {
        let mut roll = Roll::<u32, u32>::new(10, 20);
        for key in 0..1_000 {
            *roll.entry(&key, false, |_, _| Worth::Live, || 0).unwrap() += 1;
        }
        assert_eq!(roll.len(), 20);
        assert!((0..20).all(|key| roll.get_mut(&key) == Some(&mut 1)));
        assert!(*roll.get_mut(&999).unwrap() > 1, "what it did is counted, with others");
        *roll.entry(&1_000, true, |_, _| Worth::Live, || 7).unwrap() += 1;
        assert_eq!((roll.len(), roll.get_mut(&1_000)), (21, Some(&mut 8)), "some never share");
    }
}
