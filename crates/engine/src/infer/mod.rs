//! Inference: one thread owns llama.cpp and serves jobs in turn.
//!
//! Takes jobs through a bounded line and promises that each is answered through its own channel, in order of
//! arrival; a job whose caller has left never runs, and one that runs stops within a token or a batch of its
//! prompt. It refuses a job when the line is full.

pub mod embed;
pub mod generate;
pub mod grammar;
pub mod job;
pub mod logprobs;
pub mod outlet;
pub mod prompt;
pub mod sampler;
pub mod session;
pub mod text;
pub mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use crate::library::Entry;
use crate::stats::Stats;
use crate::wire::Refusal;
use crate::wire::duration::KeepAlive;
use job::Job;

/// Jobs that may wait at once; Ollama's own number.
pub const LINE: usize = 512;

/// What holds for every job.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a model stays where a request does not say.
    pub keep_alive: KeepAlive,
    /// The context length where a request does not say.
    pub num_ctx: u32,
    /// Threads that compute.
    pub threads: i32,
    /// Let llama.cpp log to stderr.
    pub verbose: bool,
}

/// The model in memory, as `/api/ps` shows it.
#[derive(Debug, Clone)]
pub struct Resident {
    /// Which.
    pub entry: Arc<Entry>,
    /// Bytes of weights and context.
    pub size: u64,
    /// Its context length now.
    pub context: u32,
    /// When it leaves; `None` is never.
    pub expires: Option<SystemTime>,
}

/// What worker and server share.
#[derive(Debug)]
pub struct Shared {
    /// What holds for every job.
    pub settings: Settings,
    /// The counters.
    pub stats: Stats,
    resident: Mutex<Option<Resident>>,
    stopping: AtomicBool,
}

impl Shared {
    /// The model in memory.
    pub fn resident(&self) -> Option<Resident> {
        self.resident.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_resident(&self, resident: Option<Resident>) {
        *self.resident.lock().unwrap_or_else(PoisonError::into_inner) = resident;
    }

    /// Is the server about to end?
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// What goes to the worker.
#[derive(Debug)]
pub(crate) enum Message {
    /// Work.
    Job(Box<Job>),
    /// Nothing more will come.
    Stop,
}

/// The accepting side's handle to the worker.
#[derive(Debug)]
pub struct Engine {
    line: SyncSender<Message>,
    /// What worker and server share.
    pub shared: Arc<Shared>,
}

impl Engine {
    /// Starts the worker thread.
    pub fn start(settings: Settings) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (line, jobs) = std::sync::mpsc::sync_channel(LINE);
        let shared = Arc::new(Shared {
            settings,
            stats: Stats::default(),
            resident: Mutex::new(None),
            stopping: AtomicBool::new(false),
        });
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let of_worker = Arc::clone(&shared);
        // A schema is turned into a grammar by recursion, hence the roomy stack.
        let thread =
            std::thread::Builder::new().name("llama".into()).stack_size(16 << 20).spawn(move || {
                worker::run(&jobs, &of_worker, &ready);
            })?;
        match started.recv() {
            Ok(Ok(())) => Ok((Self { line, shared }, thread)),
            Ok(Err(text)) => Err(std::io::Error::other(text)),
            Err(_) => Err(std::io::Error::other("the worker thread ended at once")),
        }
    }

    /// Puts a job in line.
    pub fn submit(&self, job: Job) -> Result<(), Refusal> {
        let refusal = match self.line.try_send(Message::Job(Box::new(job))) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => {
                Refusal::new(503, "server busy, please try again.  maximum pending requests exceeded")
            }
            Err(TrySendError::Disconnected(_)) => Refusal::new(500, "the model's thread has ended"),
        };
        self.shared.stats.picked();
        Err(refusal)
    }

    /// Ends the running job, lets none of the waiting ones run, ends the worker.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Where the line is full, the worker sees the flag at its next job.
        drop(self.line.try_send(Message::Stop));
    }
}
