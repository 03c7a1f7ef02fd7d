//! The gate in force: replaced whole when the configuration changes, while requests run.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::request::Parts;

use super::gate::Gate;
use crate::config::Config;
use crate::forward::ReplyBody;
use crate::listen::{Answering, ConnState, Handler, Reject, Verb};

/// What every connection asks for the gate of its next request.
#[derive(Debug)]
pub struct Front(ArcSwap<Gate>);

impl Front {
    /// With this gate, for now.
    pub fn new(gate: Gate) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(gate)))
    }

    /// The gate in force.
    pub fn gate(&self) -> Arc<Gate> {
        self.0.load_full()
    }

    /// From now on requests meet a gate of this configuration; those that run keep theirs.
    pub fn renew(&self, config: &Config) {
        self.0.store(Arc::new(self.gate().renewed(config)));
    }
}

impl Handler for Front {
    type Body = ReplyBody;

    fn answer(
        self: &Arc<Self>,
        state: Arc<ConnState>,
        peer: SocketAddr,
        head: Parts,
    ) -> Answering<ReplyBody> {
        self.gate().answer(state, peer, head)
    }

    fn rejected(&self, peer: SocketAddr, reject: Reject, verb: Verb) -> Vec<u8> {
        self.0.load().rejected(peer, reject, verb)
    }

    fn largest_body(&self) -> usize {
        self.0.load().rules.limits.body
    }

    fn is_exempt(&self, peer: IpAddr) -> bool {
        self.0.load().identify.is_exempt(peer)
    }
}
