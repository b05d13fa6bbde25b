//! Handlers for tests: internal counts, and a panic of the Connection actor.

use actix::{Context, Handler, MessageResult, ResponseFuture};

use super::ConnectionSupervisor;
use crate::testing::{GetIoCounts, GetRecordCounts, IoCounts, Panic, PanicConnection, RecordCounts};

impl Handler<PanicConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, _: PanicConnection, _: &mut Context<Self>) {
        if let Some(connection) = &self.connection {
            connection.actor.do_send(Panic);
        }
    }
}

impl Handler<GetIoCounts> for ConnectionSupervisor {
    type Result = ResponseFuture<Option<IoCounts>>;

    fn handle(&mut self, count: GetIoCounts, _: &mut Context<Self>) -> Self::Result {
        let counts = self.connection.as_ref().map(|connection| connection.actor.send(count));
        Box::pin(async move { counts?.await.ok().flatten() })
    }
}

impl Handler<GetRecordCounts> for ConnectionSupervisor {
    type Result = MessageResult<GetRecordCounts>;

    fn handle(&mut self, _: GetRecordCounts, _: &mut Context<Self>) -> Self::Result {
        MessageResult(RecordCounts::new(self.supervision.topology.counts()))
    }
}
