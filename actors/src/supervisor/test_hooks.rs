//! For tests that look inside.

use actix::{Context, Handler, MessageResult, ResponseFuture};

use super::ConnectionSupervisor;
use crate::testing::{CountRecords, CountWork, Panic, PanicConnection, Records, Work};

impl Handler<PanicConnection> for ConnectionSupervisor {
    type Result = ();

    fn handle(&mut self, _: PanicConnection, _: &mut Context<Self>) {
        if let Some(life) = &self.connection {
            life.actor.do_send(Panic);
        }
    }
}

impl Handler<CountWork> for ConnectionSupervisor {
    type Result = ResponseFuture<Option<Work>>;

    fn handle(&mut self, count: CountWork, _: &mut Context<Self>) -> Self::Result {
        let counted = self.connection.as_ref().map(|life| life.actor.send(count));
        Box::pin(async move { counted?.await.ok().flatten() })
    }
}

impl Handler<CountRecords> for ConnectionSupervisor {
    type Result = MessageResult<CountRecords>;

    fn handle(&mut self, _: CountRecords, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Records::new(self.recovering.topology.counts()))
    }
}
