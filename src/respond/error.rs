//! The error table: every failure of every stage, its status, its words for the caller and its words for the log.

use http::header::{ALLOW, CONNECTION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::admit::{RateState, TokenState};
use crate::dialect::ollama::answer;
use crate::dialect::ollama::fault::Fault;
use crate::identify::{IdentifyError, TokenError};
use crate::record::{Ending, LedgerError, brief};
use crate::route::RouteError;
use crate::types::{Scope, Side};
use crate::upstream::UpstreamError;
use crate::validate::ValidateError;

use super::head;

/// A failure on its way to the caller.
#[derive(Debug)]
pub struct Failure {
    /// For the caller.
    pub status: StatusCode,
    /// For the caller.
    pub public: String,
    /// For the log alone.
    pub detail: String,
    /// Whose fault.
    pub side: Side,
    /// How the record ends.
    pub ending: Ending,
    /// Did the model server perhaps work on it? Then its time counts, once it had its turn.
    pub worked: bool,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// Which limit refused it, in a word for metrics.
    pub limit: Option<&'static str>,
    /// For 405.
    pub(super) allow: Option<&'static str>,
    /// For 429: boxed, since most failures have none.
    pub(super) limits: Option<Box<(Option<RateState>, Option<TokenState>)>>,
    /// The connection cannot go on.
    pub(super) close: bool,
}

impl Failure {
    /// A refusal: the caller can mend it.
    pub fn refused(status: StatusCode, public: impl Into<String>) -> Self {
        let public = public.into();
        Self {
            status,
            detail: public.clone(),
            public,
            side: Side::Client,
            ending: Ending::Refused,
            worked: false,
            retry_after: None,
            limit: None,
            allow: None,
            limits: None,
            close: false,
        }
    }

    fn upstream(status: StatusCode, public: impl Into<String>, detail: impl Into<String>) -> Self {
        let ending = if status == StatusCode::GATEWAY_TIMEOUT { Ending::Timeout } else { Ending::Error };
        let refused = Self::refused(status, public);
        Self { side: Side::Upstream, ending, worked: true, detail: detail.into(), ..refused }
    }

    /// A path of ours, with a method that it does not answer.
    pub(super) fn method(allow: &'static str) -> Self {
        let failure = Self::refused(StatusCode::METHOD_NOT_ALLOWED, format!("this path answers {allow}"));
        Self { allow: Some(allow), ..failure }
    }

    /// The model server was not reached, or refused without doing anything.
    #[must_use]
    pub fn without_work(self) -> Self {
        Self { worked: false, ..self }
    }

    pub(super) fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// A panic or a broken promise of ours.
    pub fn internal(detail: impl Into<String>) -> Self {
        let failure = Self::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the gateway failed; the operator's log says why",
        );
        Self { side: Side::Gateway, ending: Ending::Error, worked: true, detail: detail.into(), ..failure }
    }

    /// Something of ours that should come back.
    pub fn unavailable(public: &str, detail: String) -> Self {
        let failure = Self::refused(StatusCode::SERVICE_UNAVAILABLE, public);
        Self { side: Side::Gateway, ending: Ending::Error, retry_after: Some(5), detail, ..failure }
    }

    /// The caller's key was revoked, and this request had no answer yet.
    pub fn revoked() -> Self {
        Self {
            ending: Ending::Error,
            ..Self::refused(StatusCode::UNAUTHORIZED, StreamFault::Revoked.public())
        }
    }

    /// The gateway stops, and this request had no answer yet.
    pub fn stopping() -> Self {
        let failure = Self::refused(StatusCode::SERVICE_UNAVAILABLE, StreamFault::Stopping.public());
        Self { side: Side::Gateway, ending: Ending::Error, retry_after: Some(5), close: true, ..failure }
    }

    /// A whole answer that cannot be passed on.
    pub fn bad_answer(detail: impl Into<String>) -> Self {
        Self::upstream(StatusCode::BAD_GATEWAY, "the model server gave no usable answer", detail)
    }

    /// A whole answer longer than the bound of its kind.
    pub fn long_answer(most: usize) -> Self {
        let public = format!(
            "the model server's answer is longer than upstream.max_answer allows ({most} bytes): ask for less at once"
        );
        Self::upstream(StatusCode::BAD_GATEWAY, public, "longer than upstream.max_answer allows")
    }

    /// The upstream's own refusal, in our words.
    pub fn from_fault(fault: Fault) -> Self {
        let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let side = if status.is_client_error() { Side::Client } else { Side::Upstream };
        Self { side, retry_after: fault.retry_after, ..Self::upstream(status, fault.public, fault.detail) }
    }

    /// The answer: Ollama's error shape, `{"error":"text"}` and nothing more.
    pub fn response(&self) -> Response<Vec<u8>> {
        let mut response = Response::new(answer::error_object(&self.public));
        *response.status_mut() = self.status;
        self.headers(response.headers_mut());
        response
    }

    fn headers(&self, headers: &mut HeaderMap) {
        head::media_type(headers, head::JSON);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(limits) = &self.limits {
            head::limits(headers, **limits);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portcullis\""));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl From<IdentifyError> for Failure {
    fn from(error: IdentifyError) -> Self {
        let detail = error.to_string();
        match error {
            // One answer for every key that is none: nothing tells how near a guess was.
            IdentifyError::Missing | IdentifyError::Wrong(_) => Self::refused(
                StatusCode::UNAUTHORIZED,
                "a valid API key is required: Authorization: Bearer <key>",
            ),
            IdentifyError::Credential(message) => Self::refused(StatusCode::BAD_REQUEST, message),
            IdentifyError::Peer(_) => {
                Self::refused(StatusCode::BAD_REQUEST, "the forwarded client address is malformed")
            }
            IdentifyError::LockedOut { seconds } => Self {
                retry_after: Some(seconds),
                ..Self::refused(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many wrong keys from this address; try again later",
                )
            },
            IdentifyError::Scope(Scope::Admin) => {
                Self::refused(StatusCode::FORBIDDEN, "this route needs a key with the scope admin")
            }
            IdentifyError::Scope(scope) => {
                Self::refused(StatusCode::FORBIDDEN, format!("this key lacks the scope {}", scope.name()))
            }
            IdentifyError::Model(ref model) => Self::refused(StatusCode::FORBIDDEN, {
                let name = brief(model.as_str());
                format!("this key may not use the model '{name}'")
            }),
            IdentifyError::Token(TokenError::Later) => Self {
                retry_after: Some(1),
                ..Self::refused(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the signing keys of the identity provider are not at hand; try again",
                )
            },
            IdentifyError::Token(TokenError::Invalid(reason)) => {
                Self::refused(StatusCode::UNAUTHORIZED, reason)
            }
            IdentifyError::ShutOut => {
                Self::refused(StatusCode::FORBIDDEN, "this identity may not use this gateway")
            }
            IdentifyError::ForeignPage => Self::refused(
                StatusCode::FORBIDDEN,
                "a page of another origin made this request, and the browser added the key: such a page must send it as Authorization: Bearer",
            ),
            IdentifyError::Host => Self::refused(
                StatusCode::MISDIRECTED_REQUEST,
                "this host name is not served; the operator can list it in listen.hosts",
            ),
        }
        .with(detail)
    }
}

impl From<ValidateError> for Failure {
    fn from(error: ValidateError) -> Self {
        let status = match error {
            ValidateError::KeyInUrl
            | ValidateError::Json(_)
            | ValidateError::Field { .. }
            | ValidateError::ModelName(_) => StatusCode::BAD_REQUEST,
            ValidateError::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ValidateError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ValidateError::CloudModel | ValidateError::Unload => StatusCode::FORBIDDEN,
        };
        Self::refused(status, error.to_string()).with(error.detail())
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        // What a caller named stands in the record's own column; their text in a reason would be there twice.
        match error {
            RouteError::UnknownModel(model) => {
                Self::refused(StatusCode::NOT_FOUND, format!("model '{}' not found", brief(model.as_str())))
                    .with("the model server does not have the model")
            }
            RouteError::NoDefault(model) => Self::refused(
                StatusCode::NOT_FOUND,
                format!(
                    "model '{model}' not found: it is the default here; run `ollama pull {model}` at the model server, or name a model that GET /models lists"
                ),
            ),
            RouteError::CloudModel(model) => Self::refused(
                StatusCode::FORBIDDEN,
                format!("'{}' runs in the cloud, which is switched off here", brief(model.as_str())),
            )
            .with("a cloud model, which routes.cloud_models does not allow"),
            RouteError::NotReady(detail) => {
                let public = "the model server cannot be reached";
                let failure = Self::upstream(StatusCode::SERVICE_UNAVAILABLE, public, detail);
                Self { retry_after: Some(5), ..failure.without_work() }
            }
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let public = "requests cannot be recorded at the moment, so none is served; try again later";
        let failure = Self::refused(StatusCode::SERVICE_UNAVAILABLE, public).with(error.to_string());
        Self { retry_after: Some(5), side: Side::Gateway, ..failure }
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        let detail = error.to_string();
        match error {
            UpstreamError::Connect(_) | UpstreamError::ConnectTimeout => {
                let public = "the model server cannot be reached";
                Self::upstream(StatusCode::BAD_GATEWAY, public, detail).without_work()
            }
            UpstreamError::FirstByteTimeout => {
                let public = "the model server did not answer within upstream.first_byte_timeout";
                Self::upstream(StatusCode::GATEWAY_TIMEOUT, public, detail)
            }
            UpstreamError::Closed | UpstreamError::Io(_) => {
                Self::upstream(StatusCode::BAD_GATEWAY, "the model server closed the connection", detail)
            }
            UpstreamError::Protocol(_) => Self::bad_answer(detail),
        }
    }
}

/// Why a stream whose head is out cannot go on. The caller hears it as the last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamFault {
    /// The connection broke, or the answer ended before its end.
    Broken(String),
    /// The upstream said so itself.
    Upstream(Box<Fault>),
    /// Silence, or a life longer than allowed.
    Clock(&'static str),
    /// A line longer than `upstream.max_line`.
    LongLine,
    /// A line that is no JSON object.
    Malformed,
    /// The gateway stops.
    Stopping,
    /// The caller's key was revoked.
    Revoked,
    /// The caller's model time of the day is used up.
    Overrun,
}

impl StreamFault {
    /// Which limit ended it, in a word for metrics.
    pub const fn limit(&self) -> Option<&'static str> {
        if matches!(self, Self::Overrun) { Some("gpu_seconds_per_day") } else { None }
    }

    /// For the caller.
    pub fn public(&self) -> &str {
        match self {
            Self::Broken(_) => "the model server broke off its answer",
            Self::Upstream(fault) => &fault.public,
            Self::Clock("upstream.total_timeout") => "the answer took longer than upstream.total_timeout",
            Self::Clock(_) => "the model server fell silent for longer than upstream.idle_timeout",
            Self::LongLine => "a line of the model server's answer is longer than upstream.max_line",
            Self::Malformed => "the model server's answer could not be read",
            Self::Stopping => "the gateway is shutting down",
            Self::Revoked => "the API key was revoked or has expired",
            Self::Overrun => "the budget of model time is used up until midnight UTC",
        }
    }

    /// Whose fault.
    pub const fn side(&self) -> Side {
        match self {
            Self::Stopping => Side::Gateway,
            Self::Revoked | Self::Overrun => Side::Client,
            Self::Upstream(fault) if fault.status < 500 => Side::Client,
            _ => Side::Upstream,
        }
    }

    /// For the log.
    pub fn detail(&self) -> String {
        match self {
            Self::Broken(why) => why.clone(),
            Self::Upstream(fault) => fault.detail.clone(),
            Self::Clock(which) => (*which).to_owned(),
            Self::LongLine => "a line longer than upstream.max_line".into(),
            Self::Malformed => "a line that is no JSON object".into(),
            Self::Stopping => "shut down".into(),
            Self::Revoked => "the key was revoked or has expired".into(),
            Self::Overrun => "limit gpu".into(),
        }
    }

    /// How the record ends.
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Clock(_) => Ending::Timeout,
            _ => Ending::Error,
        }
    }
}
