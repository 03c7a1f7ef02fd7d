//! Ollama's known holes by version. Behind the gate most of them are out of a caller's reach; whoever gets around it has them all.
//!
//! Restated from the CVE records and the issues named; the list ends where the newest entry does, and says nothing of later ones.

use std::cmp::Ordering;

/// Where a hole ends.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// In this release.
    Fixed(&'static str),
    /// Nobody said when: this is the last release that is known to have it.
    Last(&'static str),
}

/// One hole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hole {
    pub(super) id: &'static str,
    /// The first release that has it; empty: from the beginning.
    begins: &'static str,
    ends: Ends,
    /// A CVE; otherwise an issue of the project.
    pub(super) grave: bool,
    pub(super) what: &'static str,
}

const fn cve(id: &'static str, ends: Ends, what: &'static str) -> Hole {
    Hole { id, begins: "", ends, grave: true, what }
}

const fn issue(id: &'static str, fixed: &'static str, what: &'static str) -> Hole {
    Hole { id, begins: "", ends: Ends::Fixed(fixed), grave: false, what }
}

use Ends::{Fixed, Last};

/// The worst first.
const HOLES: &[Hole] = &[
    cve(
        "CVE-2026-7482",
        Fixed("0.17.1"),
        "create and push give away the server's memory: prompts, keys, environment",
    ),
    cve("CVE-2024-37032", Fixed("0.1.34"), "a pulled model writes files anywhere, and so runs code"),
    cve("CVE-2024-45436", Fixed("0.1.47"), "an imported archive writes files anywhere, and so runs code"),
    cve("CVE-2024-7773", Fixed("0.1.47"), "the same by another way"),
    cve("CVE-2024-28224", Fixed("0.1.29"), "any web page reaches the whole API by DNS rebinding"),
    cve("CVE-2025-51471", Fixed("0.14.3"), "a registry takes the token that is meant for another"),
    cve("CVE-2026-5530", Last("0.18.1"), "a pull makes the server ask addresses of the caller's choice"),
    cve("CVE-2026-7020", Last("0.20.2"), "a transferred tensor leaves its folder"),
    Hole {
        begins: "0.11.5",
        ..cve("CVE-2025-15514", Last("0.13.5"), "a broken image in a chat ends the model's process")
    },
    cve("CVE-2025-44779", Fixed("0.1.34"), "a pull deletes any file"),
    cve("CVE-2024-39721", Fixed("0.1.34"), "a create keeps a processor busy for ever"),
    cve("CVE-2024-39720", Fixed("0.1.46"), "a model of four bytes ends the server"),
    cve("CVE-2024-39722", Fixed("0.1.46"), "a push tells which files exist"),
    cve("CVE-2024-39719", Last("0.3.14"), "a create tells which files exist"),
    cve("CVE-2024-8063", Last("0.3.14"), "a crafted model divides by zero"),
    cve("CVE-2024-12055", Last("0.3.14"), "a crafted model reads beyond its bytes"),
    cve("CVE-2025-0312", Last("0.3.14"), "a crafted model ends the server"),
    cve("CVE-2025-0315", Last("0.3.14"), "a crafted model takes all memory"),
    cve("CVE-2025-0317", Last("0.3.14"), "a crafted model divides by zero"),
    cve("CVE-2024-12886", Fixed("0.4.0"), "a registry's compressed answer takes all memory"),
    cve("CVE-2025-1975", Last("0.5.11"), "a crafted manifest ends the server"),
    cve("CVE-2025-66959", Last("0.12.10"), "a crafted model ends the server"),
    cve("CVE-2025-66960", Last("0.12.10"), "a crafted model ends the server"),
    issue("ollama#17042", "0.31.2", "a tiny model asks for memory that there is not, and ends the server"),
    issue("ollama#15485", "0.32.10", "parts of a pulled model are not verified"),
    issue(
        "ollama#17825",
        "0.32.15",
        "an error in the middle of an answer leaves the model stuck until a restart",
    ),
];

/// The first release that none of them is known to be in.
pub(super) const CLEAN: &str = "0.32.15";

/// What is known of a version; `None`: it says nothing (a build of one's own, or no version at all).
pub(super) fn known(version: &str) -> Option<Vec<&'static Hole>> {
    let found = Version::parse(version).filter(|version| version.numbers != [0, 0, 0])?;
    let has = |hole: &&Hole| {
        let at = |text| Version::parse(text).map_or(Ordering::Equal, |edge| found.cmp(&edge));
        (hole.begins.is_empty() || at(hole.begins) != Ordering::Less)
            && match hole.ends {
                Fixed(fixed) => at(fixed) == Ordering::Less,
                Last(last) => at(last) != Ordering::Greater,
            }
    };
    Some(HOLES.iter().filter(has).collect())
}

/// `0.6.2`, `v0.6.2-rc1`, `0.6.2+build`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    /// A release is later than what came before it.
    released: bool,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let text = text.split('+').next().unwrap_or(text);
        let (numbers, before) =
            text.split_once('-').map_or((text, None), |(numbers, rest)| (numbers, Some(rest)));
        let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
        let numbers = [parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?];
        // `0.6.2-3-gabc`, commits behind a tag, is no pre-release.
        let released = before.is_none_or(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        parts.next().is_none().then_some(Self { numbers, released })
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then(self.released.cmp(&other.released))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(version: &str) -> Vec<&'static str> {
        known(version).unwrap().iter().map(|hole| hole.id).collect()
    }

    #[test]
    fn versions_compare_as_releases_do() {
        let cmp = |a: &str, b: &str| Version::parse(a).unwrap().cmp(&Version::parse(b).unwrap());
        assert_eq!(cmp("0.6.10", "0.6.2"), Ordering::Greater);
        assert_eq!(cmp("0.6.2-rc1", "0.6.2"), Ordering::Less);
        assert_eq!(cmp("v0.6.2+cuda", "0.6.2"), Ordering::Equal);
        assert_eq!(cmp("0.6.2-3-gabc", "0.6.2"), Ordering::Equal);
        assert_eq!(cmp("0.6", "0.6.0"), Ordering::Equal);
        for none in ["", "x", "0", "1.2.3.4", "0.x.1", "latest", "-1.0.0"] {
            assert_eq!(Version::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_hole_ends_with_its_fix() {
        assert!(ids("0.17.0").contains(&"CVE-2026-7482"));
        assert!(ids("0.17.1-rc0").contains(&"CVE-2026-7482"));
        assert!(!ids("0.17.1").contains(&"CVE-2026-7482"));
        assert!(!ids("0.11.4").contains(&"CVE-2025-15514"));
        assert!(ids("0.11.5").contains(&"CVE-2025-15514") && ids("0.13.5").contains(&"CVE-2025-15514"));
        assert!(!ids("0.13.6").contains(&"CVE-2025-15514"));
        assert!(ids("0.1.0").len() > 20);
        assert_eq!(ids("0.32.14"), ["ollama#17825"]);
        assert_eq!(ids(CLEAN), [""; 0]);
        assert_eq!(ids("0.33.0-rc2"), [""; 0]);
        assert!(known("0.0.0").is_none() && known("unknown").is_none());
    }

    #[test]
    fn every_edge_is_a_version_and_every_id_stands_once() {
        let mut names: Vec<_> = HOLES.iter().map(|hole| hole.id).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), HOLES.len());
        for hole in HOLES {
            let (Fixed(edge) | Last(edge)) = hole.ends;
            assert!(Version::parse(edge).is_some(), "{hole:?}");
            assert!(
                Version::parse(CLEAN).unwrap().cmp(&Version::parse(edge).unwrap()) != Ordering::Less,
                "{hole:?}"
            );
        }
    }
}
