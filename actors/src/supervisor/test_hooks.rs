//! For tests: what stands in for connections, internal counts, and a panic of the Connection actor.

use std::{fmt, sync::Arc};

use actix::{Addr, ArbiterHandle, Context, Handler, MessageResult, Recipient, ResponseFuture};
use tokio::sync::watch;

use super::ConnectionSupervisor;
use crate::{
    internal::{ConnectionCommand, SupervisorMessage},
    message::ConnectionState,
    options::ConnectionOptions,
    outbox::{ConnectionTally, Flush},
    testing::{GetIoCounts, GetRecordCounts, IoCounts, Panic, PanicConnection, RecordCounts},
};

type Start = dyn FnMut(u64, Recipient<SupervisorMessage>) -> (Recipient<ConnectionCommand>, Recipient<Flush>);

/// Starts an actor in place of the `Connection` actor of an epoch.
pub(crate) struct StartStandIn(pub(super) Box<Start>);

impl fmt::Debug for StartStandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StartStandIn").finish()
    }
}

impl ConnectionSupervisor {
    /// Starts the actor, with other actors in place of its connections.
    pub(crate) fn launch_without_socket<F>(
        options: ConnectionOptions,
        arbiter: Option<&ArbiterHandle>,
        tally: Arc<ConnectionTally>,
        start: F,
    ) -> (Addr<Self>, watch::Receiver<ConnectionState>)
    where
        F: FnMut(u64, Recipient<SupervisorMessage>) -> (Recipient<ConnectionCommand>, Recipient<Flush>)
            + Send
            + 'static,
    {
        Self::launch_with(options, arbiter, tally, |supervisor| {
            supervisor.stand_in = Some(StartStandIn(Box::new(start)));
        })
    }
}

impl Handler<PanicConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, _: PanicConnection, _: &mut Context<Self>) {
        if let Some(actor) = self.connection.as_ref().and_then(|connection| connection.actor.as_ref()) {
            actor.do_send(Panic);
        }
    }
}

impl Handler<GetIoCounts> for ConnectionSupervisor {
    type Result = ResponseFuture<Option<IoCounts>>;

    fn handle(&mut self, count: GetIoCounts, _: &mut Context<Self>) -> Self::Result {
        let counts =
            self.connection.as_ref().and_then(|connection| Some(connection.actor.as_ref()?.send(count)));
        Box::pin(async move { counts?.await.ok().flatten() })
    }
}

impl Handler<GetRecordCounts> for ConnectionSupervisor {
    type Result = MessageResult<GetRecordCounts>;

    fn handle(&mut self, _: GetRecordCounts, _: &mut Context<Self>) -> Self::Result {
        MessageResult(RecordCounts::new(self.supervision.topology.counts()))
    }
}
