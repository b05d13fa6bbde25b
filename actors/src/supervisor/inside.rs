//! For tests that look inside.

use actix::{Context, Handler, ResponseFuture};

use super::ConnectionSupervisor;
use crate::testing::{CountWork, Panic, PanicConnection, Work};

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
