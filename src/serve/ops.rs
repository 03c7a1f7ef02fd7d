//! The listener for operators: metrics, probes, and the admin API. On loopback unless it is told otherwise; never a way to a model.
//!
//! Takes the same guarded connections as the public listener. The admin API asks for a key with the scope `admin`; metrics and probes ask
//! for none, so this listener belongs on an address that only operators reach.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use super::admin::{self, Admin, Reads};
use super::front::Front;
use crate::endpoint::Refusal;
use crate::forward::{Held, ReplyBody};
use crate::identify::{IdentifyError, Ring};
use crate::listen::{Answering, ConnState, Freely, Handler, InFlight, Reject, Verb};
use crate::record::LedgerError;
use crate::record::metrics::Gauges;
use crate::respond::{Failure, head};
use crate::store::actions::Actor;
use crate::types::{RequestId, Scope};
use crate::validate::intake;

/// Bytes of a request to the admin API.
const BODY: usize = 64 << 10;
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The handler.
#[derive(Debug)]
pub struct Ops {
    front: Arc<Front>,
    ring: Option<Arc<Ring>>,
    folder: PathBuf,
    reads: Arc<Reads>,
    on_loopback: bool,
}

type Said = Result<(StatusCode, HeaderValue, Vec<u8>), Failure>;

impl Ops {
    /// For this gate; without a ring of keys there is no admin API.
    pub fn new(front: Arc<Front>, ring: Option<Arc<Ring>>, folder: PathBuf, on_loopback: bool) -> Self {
        let reads = Arc::new(Reads::of(&folder));
        Self { front, ring, folder, reads, on_loopback }
    }

    async fn said(&self, state: &ConnState, peer: SocketAddr, request: &Parts, id: RequestId) -> Said {
        self.host(request)?;
        let get = request.method == Method::GET || request.method == Method::HEAD;
        match request.uri.path() {
            "/metrics" | "/healthz" | "/readyz" if !get => Err(Refusal::Method("GET, HEAD").into()),
            "/metrics" => Ok((StatusCode::OK, TEXT, self.metrics(state).await.into_bytes())),
            "/healthz" => Ok((StatusCode::OK, head::JSON, br#"{"status":"ok"}"#.to_vec())),
            "/readyz" => {
                if self.front.gate().desk.ledger.is_failing() {
                    return Err(LedgerError::Failing.into());
                }
                self.front.gate().pool.probe(&state.clock).await?;
                Ok((StatusCode::OK, head::JSON, br#"{"status":"ready"}"#.to_vec()))
            }
            path if path.starts_with("/admin/") => self.admin(state, peer, request, id).await,
            _ => Err(Refusal::Unknown.into()),
        }
    }

    /// On loopback, only by a name of this machine or an address: a page in somebody's browser may have made another lead here (DNS
    /// rebinding). On other addresses the operator decides who reaches it.
    fn host(&self, request: &Parts) -> Result<(), Failure> {
        if !self.on_loopback || self.front.gate().identify.is_own_host(&request.headers) {
            return Ok(());
        }
        Err(Failure::refused(StatusCode::MISDIRECTED_REQUEST, "this host name is not served here"))
    }

    async fn metrics(&self, state: &ConnState) -> String {
        let gate = self.front.gate();
        let (ledger, load) = (&gate.desk.ledger, gate.slots.load());
        let gauges = Gauges {
            in_flight: ledger.in_flight(),
            waiting: load.waiting,
            running: load.running,
            slots: load.slots,
            body_bytes: gate.admit.body_bytes(),
            upstream_up: gate.pool.probe(&state.clock).await.is_ok(),
            audit_pending: ledger.pending(),
            audit_failing: ledger.is_failing(),
            audit_lag: ledger.lag(),
        };
        ledger.metrics.page(&gauges)
    }

    async fn admin(&self, state: &ConnState, peer: SocketAddr, request: &Parts, id: RequestId) -> Said {
        let gate = self.front.gate();
        let Some(ring) = &self.ring else {
            return Err(Failure::refused(StatusCode::FORBIDDEN, "in public mode there are no keys"));
        };
        let now = state.clock.now();
        // The peer itself: what a proxy says counts on the public listener.
        let identified = gate.identify.by_key(Some(peer.ip()), &request.headers, None, now);
        let caller = identified.inspect_err(|error| {
            if matches!(error, IdentifyError::Wrong(_) | IdentifyError::LockedOut { .. }) {
                tracing::warn!(client = %peer.ip(), reason = %error, "admin API refused");
            }
        })?;
        let by = Actor {
            by: caller.key_id().map_or_else(|| "-".to_owned(), ToString::to_string),
            via: "api",
            peer: Some(peer.ip()),
            request_id: id.0,
        };
        if let Err(error) = caller.may(Scope::Admin) {
            tracing::warn!(client = %peer.ip(), by = by.by, reason = %error, "admin API refused");
            let ring = Arc::clone(ring);
            blocking(move || admin::note_refused(&ring, &by)).await??;
            return Err(error.into());
        }
        // What asks for nothing but to look has no body to speak of.
        let keyed = caller.has_presented_key() || request.method == Method::GET;
        intake::media_type(&request.headers, keyed)?;
        let read = state.inlet.read(BODY, &mut Freely).await;
        let body = read.map_err(|_| {
            let text = format!("the body is larger than {BODY} bytes");
            Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, text)
        })?;
        let asked = admin::Asked {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
            query: request.uri.query().unwrap_or("").to_owned(),
            body,
            by,
        };
        let (ring, folder, reads) = (Arc::clone(ring), self.folder.clone(), Arc::clone(&self.reads));
        let work = move || admin::answer(&Admin { ring: &ring, folder: &folder, reads: &reads }, &asked);
        let (status, value) = blocking(work).await??;
        if request.method != Method::GET {
            let by = caller.key_id().map(ToString::to_string);
            let path = self.front.gate().desk.secrets.shown(request.uri.path());
            tracing::info!(by, method = %request.method, path, "admin API");
        }
        Ok((status, head::JSON, value.to_string().into_bytes()))
    }
}

/// Not on a worker: a store that is locked would hold up whoever shares it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::internal(error.to_string()))
}

impl Handler for Ops {
    type Body = ReplyBody;

    fn answer(
        self: &Arc<Self>,
        state: Arc<ConnState>,
        peer: SocketAddr,
        request: Parts,
    ) -> Answering<ReplyBody> {
        let ops = Arc::clone(self);
        Box::pin(async move {
            let id = ops.front.gate().next_id();
            let result = ops.said(&state, peer, &request, id).await;
            let whole = state.is_whole();
            let held = Held { in_flight: InFlight::new(state), permit: None, record: None, turn: None };
            let mut response = match result {
                Ok((status, media_type, bytes)) => {
                    let mut response = Response::new(ReplyBody::Whole { bytes: bytes.into(), held });
                    *response.status_mut() = status;
                    head::media_type(response.headers_mut(), media_type);
                    response
                }
                Err(failure) => {
                    failure.response().map(|bytes| ReplyBody::Whole { bytes: bytes.into(), held })
                }
            };
            if !whole {
                response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            head::common(response.headers_mut(), id);
            Ok(response)
        })
    }

    fn rejected(&self, peer: SocketAddr, reject: Reject, verb: Verb) -> Vec<u8> {
        self.front.gate().rejected(peer, reject, verb)
    }

    fn largest_body(&self) -> usize {
        BODY
    }

    fn is_exempt(&self, _peer: IpAddr) -> bool {
        false
    }
}
