//! Processes of a run: pinned before they start, measured from /proc, ended by their own id.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// One core for the proxy under test, another for the upstream and the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cores {
    pub(super) proxy: usize,
    pub(super) load: usize,
}

impl Cores {
    /// The first and the last of the allowed ones.
    pub(super) fn pick() -> Outcome<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let proxy = cores.next().ok_or("no core is allowed")?;
        Ok(Self { proxy, load: cores.next_back().unwrap_or(proxy) })
    }

    /// Pins this thread; what it spawns from now on inherits it.
    pub(super) fn pin(core: usize) -> Outcome {
        let mut set = CpuSet::new();
        set.set(core);
        Ok(sched_setaffinity(None, &set)?)
    }
}

/// A child that ends with its owner.
#[derive(Debug)]
pub(super) struct Proc(Child);

impl Proc {
    /// Starts it on one core, and brings this thread to the other.
    pub(super) fn spawn(command: &mut Command, core: usize, back: usize) -> Outcome<Self> {
        Cores::pin(core)?;
        let child = command.spawn();
        Cores::pin(back)?;
        let program = command.get_program().to_string_lossy().into_owned();
        Ok(Self(child.map_err(|error| format!("cannot start {program}: {error}"))?))
    }

    pub(super) const fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// CPU time of all its threads and of its children's, in nanoseconds.
    pub(super) fn cpu(&self) -> Outcome<u64> {
        self.tree().iter().map(|&pid| cpu_of(pid)).sum()
    }

    /// Resident bytes, its children's included.
    pub(super) fn resident(&self) -> Outcome<u64> {
        self.tree().iter().map(|&pid| resident_of(pid)).sum()
    }

    fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.0.id()];
        pids.extend(children(self.0.id()));
        pids
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let children = children(self.0.id());
        signal(self.0.id(), Signal::TERM);
        for _ in 0..30 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        // It did not listen. Its children first, or nobody would know them any more.
        for child in children {
            signal(child, Signal::KILL);
        }
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _gone = kill_process(pid, signal);
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `schedstat` has nanoseconds; `stat` has the same time in ticks of 10 ms, for kernels without it.
fn cpu_of(pid: u32) -> Outcome<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = fs::read_to_string(entry?.path().join("schedstat")) else {
            return ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).map(|ticks| ticks * 10_000_000);
        };
        let first = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        sum += first.ok_or("a schedstat that cannot be read")?;
    }
    Ok(sum)
}

/// User and system time; the name before them may hold anything.
fn ticks(stat: &str) -> Outcome<u64> {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n| fields.split_whitespace().nth(n).and_then(|word| word.parse::<u64>().ok());
    Ok(field(11).zip(field(12)).map(|(user, system)| user + system).ok_or("a stat that cannot be read")?)
}

fn resident_of(pid: u32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or("a process without memory")? << 10)
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub(super) struct Scratch(std::path::PathBuf);

impl Scratch {
    pub(super) fn new() -> Outcome<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()));
        // Fails where somebody was here before: nothing of theirs is used or removed.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_name() {
        let stat = "42 (a (b) 1 2) S 1 42 42 0 -1 4194560 1 0 0 0 17 25 0 0 20 0 1 0 9 9 9";
        assert_eq!(ticks(stat).unwrap(), 42);
        assert!(ticks("nothing").is_err());
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        // The kernel accounts at a tick or when a thread gives its core away, so a process this young may have nothing yet.
        let accounted = (0..100_000).any(|_| {
            std::thread::yield_now();
            cpu_of(std::process::id()).unwrap() > 0
        });
        assert!(accounted);
        assert!(resident_of(std::process::id()).unwrap() > 1 << 18);
    }
}
