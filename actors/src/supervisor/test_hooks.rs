//! For tests that look inside.

use actix::{Context, Handler, MessageResult, ResponseFuture};

use super::ConnectionSupervisor;
use crate::testing::{GetIoCounts, GetRecordCounts, IoCounts, Panic, PanicConnection, RecordCounts};

impl Handler<PanicConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, _: PanicConnection, _: &mut Context<Self>) {
        if let Some(life) = &self.connection {
            life.actor.do_send(Panic);
        }
    }
}

impl Handler<GetIoCounts> for ConnectionSupervisor {
    type Result = ResponseFuture<Option<IoCounts>>;

    fn handle(&mut self, count: GetIoCounts, _: &mut Context<Self>) -> Self::Result {
        let counted = self.connection.as_ref().map(|life| life.actor.send(count));
        Box::pin(async move { counted?.await.ok().flatten() })
    }
}

impl Handler<GetRecordCounts> for ConnectionSupervisor {
    type Result = MessageResult<GetRecordCounts>;

    fn handle(&mut self, _: GetRecordCounts, _: &mut Context<Self>) -> Self::Result {
        MessageResult(RecordCounts::new(self.recovering.topology.counts()))
    }
}
