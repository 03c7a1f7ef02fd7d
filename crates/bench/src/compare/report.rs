//! Medians of ratios, the table, JSON, and the bounds.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use super::contender::Kind;
use crate::load::Mode;

/// Chat: CPU to nginx.
const CHAT: f64 = 1.10;
/// Streamed line: CPU to nginx.
const LINE: f64 = 1.05;
/// What the two access lines may add to a chat, in nginx's chats.
const LINES: f64 = 0.20;
/// Chat with audit, limits and metrics: CPU to the same without.
const AUDITED: f64 = 1.25;
/// nginx's own rounds further apart than this, and the run says little.
const NOISE: f64 = 1.30;

/// Microseconds of every round, and the memory.
#[derive(Debug, Default)]
pub(super) struct Results {
    micros: BTreeMap<(usize, usize), Vec<f64>>,
    resident: BTreeMap<usize, u64>,
}

impl Results {
    pub(super) fn add(&mut self, kind: Kind, mode: Mode, micros: f64) {
        self.micros.entry((kind as usize, mode as usize)).or_default().push(micros);
    }

    pub(super) fn set_resident(&mut self, kind: Kind, bytes: u64) {
        self.resident.insert(kind as usize, bytes);
    }

    fn rounds(&self, kind: Kind, mode: Mode) -> &[f64] {
        self.micros.get(&(kind as usize, mode as usize)).map_or(&[], Vec::as_slice)
    }

    fn micros(&self, kind: Kind, mode: Mode) -> Option<f64> {
        median(self.rounds(kind, mode).iter().copied())
    }

    /// The median of the rounds' ratios to nginx.
    fn ratio(&self, kind: Kind, mode: Mode) -> Option<f64> {
        self.ratio_to(kind, Kind::Nginx, mode)
    }

    fn ratio_to(&self, kind: Kind, other: Kind, mode: Mode) -> Option<f64> {
        let pairs = self.rounds(kind, mode).iter().zip(self.rounds(other, mode));
        median(pairs.map(|(own, other)| own / other))
    }

    /// What the access lines add to a chat, in nginx's chats.
    fn lines_add(&self) -> Option<f64> {
        let rounds = |kind| self.rounds(kind, Mode::Chat);
        let (nginx, plain, lines) = (rounds(Kind::Nginx), rounds(Kind::Gateway), rounds(Kind::Lines));
        median(nginx.iter().zip(plain).zip(lines).map(|((nginx, plain), lines)| (lines - plain) / nginx))
    }

    /// How far nginx's own rounds are apart: the largest over the smallest.
    fn spread(&self, mode: Mode) -> Option<f64> {
        let rounds = self.rounds(Kind::Nginx, mode);
        let least = rounds.iter().copied().reduce(f64::min)?;
        rounds.iter().copied().reduce(f64::max).map(|most| most / least)
    }

    fn is_noisy(&self) -> bool {
        Mode::ALL.iter().any(|&mode| self.spread(mode).is_some_and(|spread| spread > NOISE))
    }

    /// Name, figure, bound.
    fn bounds(&self) -> Vec<(&'static str, f64, f64)> {
        let bounds = [
            ("chat × nginx", self.ratio(Kind::Gateway, Mode::Chat), CHAT),
            ("flat line × nginx", self.ratio(Kind::Gateway, Mode::Flat), LINE),
            ("paced line × nginx", self.ratio(Kind::Gateway, Mode::Paced), LINE),
            ("INFO lines add", self.lines_add(), LINES),
            (
                "audit, limits and metrics × without",
                self.ratio_to(Kind::Audited, Kind::Gateway, Mode::Chat),
                AUDITED,
            ),
        ];
        bounds.into_iter().filter_map(|(name, figure, bound)| Some((name, figure?, bound))).collect()
    }

    /// Is every figure within its bound?
    pub(super) fn holds(&self) -> bool {
        self.bounds().iter().all(|&(_, figure, bound)| figure <= bound)
    }

    pub(super) fn json(&self) -> Value {
        let contenders: Vec<Value> = Kind::ALL.iter().map(|&kind| self.contender(kind)).collect();
        let bounds: Vec<Value> = self
            .bounds()
            .into_iter()
            .map(|(name, figure, bound)| json!({"name": name, "figure": figure, "bound": bound, "holds": figure <= bound}))
            .collect();
        json!({"contenders": contenders, "bounds": bounds, "noisy": self.is_noisy()})
    }

    fn contender(&self, kind: Kind) -> Value {
        let mut value = json!({"name": kind.name(), "idle_bytes": self.resident.get(&(kind as usize))});
        for mode in Mode::ALL {
            if let (Some(micros), Some(object)) = (self.micros(kind, mode), value.as_object_mut()) {
                let ratio = self.ratio(kind, mode);
                let rounds = self.rounds(kind, mode);
                object
                    .insert(mode.name().into(), json!({"micros": micros, "ratio": ratio, "rounds": rounds}));
            }
        }
        value
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "CPU time of the proxy; × = median over the rounds of its ratio to nginx in the same round"
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "| contender | chat µs | × | flat µs/line | × | paced µs/line | × | idle MB |\n|---|---|---|---|---|---|---|---|"
        )?;
        for kind in Kind::ALL {
            let mut row = format!("| {} ", kind.name());
            for mode in Mode::ALL {
                match (self.micros(kind, mode), self.ratio(kind, mode)) {
                    (Some(micros), Some(ratio)) => write!(row, "| {micros:.2} | {ratio:.2} ")?,
                    _ => row.push_str("| – | – "),
                }
            }
            let idle = self.resident.get(&(kind as usize)).copied().unwrap_or(0);
            writeln!(f, "{row}| {}.{} |", idle / 1_000_000, idle % 1_000_000 / 100_000)?;
        }
        writeln!(f)?;
        for (name, figure, bound) in self.bounds() {
            let word = if figure <= bound { "holds" } else { "BROKEN" };
            writeln!(f, "{name}: {figure:.2}, bound {bound:.2}: {word}")?;
        }
        let spread = |mode| self.spread(mode).map(|spread| format!(" {} {spread:.2}", mode.name()));
        let spreads: String = Mode::ALL.into_iter().filter_map(spread).collect();
        let word = if self.is_noisy() { " (NOISY: something else ran on this machine)" } else { "" };
        writeln!(f, "nginx's slowest round over its fastest:{spreads}{word}")
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(gateway: f64, lines: f64) -> Results {
        let mut results = Results::default();
        for drift in [1.0, 1.2, 1.1] {
            results.add(Kind::Nginx, Mode::Chat, 10.0 * drift);
            results.add(Kind::Gateway, Mode::Chat, gateway * drift);
            results.add(Kind::Lines, Mode::Chat, lines * drift);
        }
        results
    }

    #[test]
    fn ratios_are_of_one_round() {
        let fine = results(9.0, 10.5);
        assert!((fine.ratio(Kind::Gateway, Mode::Chat).unwrap() - 0.9).abs() < 1e-9);
        assert!((fine.lines_add().unwrap() - 0.15).abs() < 1e-9);
        assert!(fine.holds() && !fine.is_noisy());
        assert!(!results(11.1, 11.2).holds());
        assert!(!results(9.0, 11.1).holds());
        assert!(fine.to_string().contains("| portcullis | 9.90 | 0.90 | – | – | – | – | 0.0 |"), "{fine}");
        assert_eq!(fine.json()["bounds"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
