//! What the doctor finds: one finding a check, said as it is found.

use serde_json::{Value, json};

use crate::cli::say;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    NotRun,
    /// Worth knowing; nobody gets in by it.
    Note,
    /// Somebody gets in, or something that was promised does not hold.
    Serious,
}

impl Severity {
    /// Its name in JSON.
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotRun => "not_run",
            Self::Note => "note",
            Self::Serious => "serious",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotRun => "not run",
            Self::Note => "note",
            Self::Serious => "SERIOUS",
        }
    }
}

/// What one check saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The check's name: stable, for scripts.
    pub(super) check: &'static str,
    pub(super) severity: Severity,
    /// What was seen, or why nothing could be.
    pub(super) seen: String,
    /// What to do about it.
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, seen: seen.into(), fix: None }
    }

    pub(super) fn note(check: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, severity: Severity::Note, seen: seen.into(), fix: Some(fix.into()) }
    }

    pub(super) fn serious(check: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, severity: Severity::Serious, seen: seen.into(), fix: Some(fix.into()) }
    }

    /// `how`: how it could be looked at.
    pub(super) fn not_run(check: &'static str, why: impl Into<String>, how: impl Into<String>) -> Self {
        Self { check, severity: Severity::NotRun, seen: why.into(), fix: Some(how.into()) }
    }

    fn lines(&self) -> String {
        let seen = format!("{:8} {:16} {}", self.severity.label(), self.check, self.seen);
        match &self.fix {
            Some(fix) if self.severity == Severity::NotRun => format!("{seen}\n         to run it: {fix}"),
            Some(fix) => format!("{seen}\n         fix: {fix}"),
            None => seen,
        }
    }

    fn as_json(&self) -> Value {
        json!({
            "check": self.check,
            "severity": self.severity.name(),
            "seen": self.seen,
            "fix": self.fix,
        })
    }
}

/// All findings, in order. Text is said at once: some checks take seconds.
#[derive(Debug)]
pub(super) struct Report {
    findings: Vec<Finding>,
    as_json: bool,
}

impl Report {
    pub(super) const fn new(as_json: bool) -> Self {
        Self { findings: Vec::new(), as_json }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if !self.as_json {
            say(finding.lines());
        }
        self.findings.push(finding);
    }

    pub(super) fn add_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The last line, or all of it as JSON; `true`: nothing is serious.
    pub(super) fn end(&self, target: Option<&str>) -> bool {
        let fine = self.count(Severity::Serious) == 0;
        if self.as_json {
            let list: Vec<_> = self.findings.iter().map(Finding::as_json).collect();
            say(json!({"ok": fine, "target": target, "findings": list}));
        } else {
            say(format_args!(
                "\n{} serious, {} to note, {} ok, {} not run",
                self.count(Severity::Serious),
                self.count(Severity::Note),
                self.count(Severity::Ok),
                self.count(Severity::NotRun)
            ));
        }
        fine
    }
}
