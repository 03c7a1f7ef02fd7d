//! The worker thread: jobs in turn, one model in memory.
//!
//! [`run`] holds no model; [`Worker::reside`] holds one for as long as jobs want it, then hands back the job
//! that wants another. So a context never outlives its model, without unsafe code.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, SystemTime};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use tokio::time::Instant;

use super::generate::{self, nanos};
use super::job::{Event, Job, Summary, Task};
use super::session::{Halt, Session};
use super::{Message, Resident, Shared, embed};
use crate::gguf::{Gguf, Lists};
use crate::library::Entry;
use crate::log;
use crate::wire::Refusal;
use crate::wire::duration::KeepAlive;

/// Runs until the line ends. `ready` learns whether llama.cpp could be started.
pub(crate) fn run(jobs: &Receiver<Message>, shared: &Arc<Shared>, ready: &SyncSender<Result<(), String>>) {
    if !shared.settings.verbose {
        send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
    }
    let backend = match LlamaBackend::init() {
        Ok(backend) => backend,
        Err(error) => return drop(ready.send(Err(error.to_string()))),
    };
    drop(ready.send(Ok(())));
    let worker = Worker { backend, jobs, shared };
    let mut next = worker.take(None);
    while let Some(job) = next {
        next = match job.task {
            Task::Unload => {
                worker.serve(&job, |_, _| Ok(unloaded()));
                worker.take(None)
            }
            _ => worker.load_for(job),
        };
    }
}

struct Worker<'w> {
    backend: LlamaBackend,
    jobs: &'w Receiver<Message>,
    shared: &'w Arc<Shared>,
}

impl Worker<'_> {
    /// The next job that somebody waits for; `None` when the line or the time is over.
    fn take(&self, until: Option<Instant>) -> Option<Job> {
        loop {
            let message = match until {
                None => self.jobs.recv().ok()?,
                Some(until) => {
                    match self.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
                    }
                }
            };
            let Message::Job(job) = message else { return None };
            self.shared.stats.picked();
            if self.shared.stopping() {
                self.refuse(&job, Refusal::new(503, "the server is stopping"));
            } else if job.outlet.wanted().is_err() {
                self.left(&job, 0);
            } else {
                return Some(*job);
            }
        }
    }

    /// Loads the model of a job, serves it and those after it.
    fn load_for(&self, job: Job) -> Option<Job> {
        let begun = Instant::now();
        match self.load(&job) {
            Ok(model) => {
                log::info(format_args!("model={} loaded in={:?}", job.entry.name, begun.elapsed()));
                let next = self.reside(&model, job, begun);
                self.shared.set_resident(None);
                next.or_else(|| if self.shared.stopping() { None } else { self.take(None) })
            }
            Err(Halt::Gone) => {
                self.left(&job, 0);
                self.take(None)
            }
            Err(Halt::Refused(refusal)) => {
                self.refuse(&job, refusal);
                self.take(None)
            }
        }
    }

    fn load(&self, job: &Job) -> Result<LlamaModel, Halt> {
        if !job.entry.path.is_file() {
            return Err(Refusal::pull_first(&job.asked).into());
        }
        // llama.cpp keeps its reasons for the log; our own look at the file has words for the caller.
        if let Err(error) = Gguf::read(&job.entry.path, Lists::Skip) {
            return Err(Refusal::new(500, error.to_string()).into());
        }
        let watcher = job.outlet.watcher();
        let parameters = LlamaModelParams::default().with_progress_callback(move |_| watcher());
        let loaded = LlamaModel::load_from_file(&self.backend, &job.entry.path, &parameters);
        job.outlet.wanted()?;
        Ok(loaded.map_err(|error| Refusal::new(500, format!("error loading model: {error}")))?)
    }

    /// Serves jobs for this model until another is wanted (returned), or nothing keeps it any longer.
    fn reside(&self, model: &LlamaModel, first: Job, begun: Instant) -> Option<Job> {
        let entry = Arc::clone(&first.entry);
        let mut session = None;
        let mut loaded_since = Some(begun);
        let mut next = Some(first);
        let mut until = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => self.take(until)?,
            };
            match (&job.task, job.entry.name == entry.name) {
                // What is not in memory need not leave it, and need not drive out what is.
                (Task::Unload, false) => {
                    self.serve(&job, |_, _| Ok(unloaded()));
                    continue;
                }
                // Answered once the model has gone.
                (Task::Unload, true) | (_, false) => return Some(job),
                (_, true) => {}
            }
            let keep = job.keep_alive.unwrap_or(self.shared.settings.keep_alive);
            let begun = loaded_since.take().unwrap_or_else(Instant::now);
            self.appoint(&entry, model, context_of(&job, self.shared), keep);
            self.serve(&job, |job, tokens| self.work(model, &mut session, job, begun, tokens));
            until = match keep {
                KeepAlive::For(Duration::ZERO) => return None,
                KeepAlive::For(time) => Instant::now().checked_add(time),
                KeepAlive::Forever => None,
            };
            self.appoint(&entry, model, session.as_ref().map_or(0, |s: &Session<'_>| s.asked), keep);
            if self.shared.stopping() {
                return None;
            }
        }
    }

    fn appoint(&self, entry: &Arc<Entry>, model: &LlamaModel, context: u32, keep: KeepAlive) {
        let context =
            if context == 0 { self.shared.settings.num_ctx.min(entry.trained_context()) } else { context };
        let cell = 4
            * u64::from(model.n_layer())
            * u64::from(model.n_head_kv())
            * (u64::from(model.n_embd().unsigned_abs()) / u64::from(model.n_head().max(1)));
        let expires = match keep {
            KeepAlive::For(time) => SystemTime::now().checked_add(time),
            KeepAlive::Forever => None,
        };
        let size = model.size() + u64::from(context) * cell;
        self.shared.set_resident(Some(Resident { entry: Arc::clone(entry), size, context, expires }));
    }

    /// The work of one job with its model in memory.
    fn work<'m>(
        &self,
        model: &'m LlamaModel,
        session: &mut Option<Session<'m>>,
        job: &Job,
        begun: Instant,
        tokens: &mut u64,
    ) -> Result<Summary, Halt> {
        let (settings, stats) = (&self.shared.settings, &self.shared.stats);
        let asked = context_of(job, self.shared);
        if let Task::Generate(_) = job.task
            && session.as_ref().is_none_or(|session| session.asked != asked)
        {
            // The old context goes before the new one comes: two may not fit.
            *session = None;
            *session = Some(Session::new(&self.backend, model, settings, asked)?);
        }
        let load_duration = nanos(begun.elapsed());
        let summary = match (&job.task, session) {
            (Task::Load, _) => return Ok(Summary { reason: "load", ..Summary::default() }),
            (Task::Unload, _) => return Ok(unloaded()),
            (Task::Embed(work), _) => {
                let pools = job.entry.gguf.is_embedding();
                let reader = embed::Reader { backend: &self.backend, model, pools, limit: asked, settings };
                let summary = embed::run(reader, work, &job.outlet, stats)?;
                Summary { prompt_eval_duration: 0, ..summary }
            }
            (Task::Generate(generation), Some(session)) => {
                let stops: &[&str] =
                    if job.entry.is_chatml() { &["<|im_start|>", "<|im_end|>"] } else { &[] };
                generate::run(session, generation, stops, &job.outlet, stats, tokens)?
            }
            (Task::Generate(_), None) => return Err(Refusal::new(500, "no context").into()),
        };
        Ok(Summary { load_duration, total_duration: nanos(job.arrived.elapsed()), ..summary })
    }

    /// Runs a job's work, answers it, and writes down how it ended.
    fn serve(&self, job: &Job, work: impl FnOnce(&Job, &mut u64) -> Result<Summary, Halt>) {
        let mut tokens = 0;
        self.shared.stats.begun();
        let outcome = work(job, &mut tokens);
        self.shared.stats.ended();
        let said = outcome.and_then(|summary| Ok(job.outlet.say(Event::Done(Box::new(summary)))?));
        match said {
            Ok(()) => ended(job, tokens),
            Err(Halt::Refused(refusal)) => self.refuse(job, refusal),
            Err(Halt::Gone) => self.left(job, tokens),
        }
    }

    fn refuse(&self, job: &Job, refusal: Refusal) {
        // Not the text: it may hold what the caller wrote.
        let line = format!("status={}", refusal.status);
        match job.outlet.say(Event::Failed(refusal)) {
            Ok(()) => log::info(format_args!("request={} route={} ending=refused {line}", job.id, job.route)),
            Err(_) => self.left(job, 0),
        }
    }

    fn left(&self, job: &Job, tokens: u64) {
        let after = job.outlet.left_at().map_or(Duration::ZERO, |at| at.elapsed());
        self.shared.stats.cancelled(after, tokens);
        let ms = after.as_secs_f64() * 1e3;
        log::info(format_args!(
            "request={} route={} ending=client_gone tokens={tokens} after_ms={ms:.1}",
            job.id, job.route
        ));
    }
}

fn ended(job: &Job, tokens: u64) {
    let ms = job.arrived.elapsed().as_millis();
    log::info(format_args!("request={} route={} ending=done tokens={tokens} ms={ms}", job.id, job.route));
}

fn unloaded() -> Summary {
    Summary { reason: "unload", ..Summary::default() }
}

/// The context length of a job: what it asks for, within what the model was trained for.
fn context_of(job: &Job, shared: &Shared) -> u32 {
    let trained = job.entry.trained_context();
    match job.num_ctx {
        None | Some(0) => shared.settings.num_ctx.min(trained),
        Some(asked) => u32::try_from(asked.max(4)).unwrap_or(u32::MAX).min(trained),
    }
}
