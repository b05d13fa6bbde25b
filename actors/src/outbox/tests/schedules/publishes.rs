//! The publishes of a schedule: what the application does, and whether each outcome that it gets is true.

use std::{
    collections::BTreeSet,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::{model_broker::ModelBroker, world::World};
use crate::{ErrorKind, error::Result, message::Outgoing, wire::Properties};

/// The outcome of one publish, and what it may be.
#[derive(Debug)]
pub(super) struct PublishRecord {
    pub(super) resend: bool,
    pub(super) exchange: &'static str,
    pub(super) size: usize,
    pub(super) failures: u8,
    pub(super) outcome: Option<Result<()>>,
    pub(super) late: bool,
    /// It was in flight when its channel was closed, or its connection lost.
    pub(super) channel_closed: bool,
    pub(super) connection_lost: bool,
    /// The broker refuses it with this code.
    pub(super) refused: Option<u16>,
}

impl World {
    /// Polls every publish without an outcome.
    pub(super) fn poll_all(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for id in self.open() {
            if let Poll::Ready(answer) = self.outbox.poll_confirm(id, &mut cx) {
                self.resolve(id, answer);
            }
        }
    }

    /// Returns the publishes without an outcome.
    pub(super) fn open(&self) -> Vec<u64> {
        let open = self.publishes.iter().filter(|(_, publish)| publish.outcome.is_none());
        open.map(|(id, _)| *id).collect()
    }

    /// Checks that an outcome is true.
    pub(super) fn resolve(&mut self, id: u64, answer: Result<u32>) {
        let (publish, broker) = (self.publishes.get_mut(&id).expect("a publish"), &mut self.broker);
        let known = |set: &BTreeSet<u64>| set.contains(&id);
        match &answer {
            Ok(_) => assert!(known(&broker.acked), "{id} was never confirmed"),
            Err(error) => {
                let kind = error.kind();
                let may = match kind {
                    ErrorKind::Nacked => known(&broker.nacked),
                    ErrorKind::Unroutable => known(&broker.unroutable),
                    ErrorKind::Timeout => publish.late,
                    ErrorKind::ChannelClosed => publish.channel_closed || publish.late,
                    ErrorKind::ConnectionClosed => publish.connection_lost || publish.late,
                    _ => false,
                };
                assert!(may, "{id}: {error:?}, {publish:?}");
                let may_have_arrived = match kind {
                    ErrorKind::Unroutable => known(&broker.received_earlier),
                    _ => known(&broker.arrived),
                };
                assert_eq!(error.may_have_arrived(), may_have_arrived, "{id}: {error}");
                if kind == ErrorKind::Nacked {
                    assert_eq!(error.entity(), Some(publish.exchange));
                    assert!(error.to_string().contains(&format!("{:?}", id.to_string())), "{error}");
                }
                if matches!(kind, ErrorKind::ChannelClosed | ErrorKind::ConnectionClosed) {
                    assert_eq!(error.code(), publish.refused, "{id}: {error}");
                    assert_eq!(error.is_retryable(), publish.refused.is_none(), "{id}: {error}");
                }
                if kind != ErrorKind::Unroutable && !error.may_have_arrived() {
                    broker.not_arrived.insert(id);
                }
            }
        }
        publish.outcome = Some(answer.map(|_| ()));
    }

    pub(super) fn own_deadline(&mut self, id: u64) {
        self.publishes.get_mut(&id).expect("a publish").late = true;
        let ModelBroker { deferred, nacked, .. } = &mut self.broker;
        if deferred.remove(&id) {
            nacked.insert(id);
        }
        let answer = self.outbox.expire_publish(id);
        self.resolve(id, answer);
    }

    pub(super) fn publish(&mut self, size: usize, resend: bool, exchange: &'static str) {
        let id = self.outbox.published();
        let (properties, body) = (Properties::new(), Bytes::from(vec![b'x'; size]));
        let routing_key = &id.to_string();
        let outgoing =
            Outgoing { exchange, routing_key, mandatory: true, resend, properties: &properties, body: &body };
        match self.outbox.queue_publish(outgoing) {
            Ok(Some(sequence)) => {
                assert_eq!(sequence, id);
                let publish = PublishRecord {
                    resend,
                    exchange,
                    size,
                    failures: 0,
                    outcome: None,
                    late: false,
                    channel_closed: false,
                    connection_lost: false,
                    refused: None,
                };
                self.publishes.insert(id, publish);
            }
            Ok(None) => {}
            Err(error) => {
                let kinds = [ErrorKind::ConnectionClosed, ErrorKind::ChannelClosed];
                assert!(self.refusing && kinds.contains(&error.kind()), "{error}");
            }
        }
    }
}
