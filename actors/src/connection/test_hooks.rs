//! For tests that look inside.

use actix::{Context, Handler, MessageResult};

use super::Connection;
use crate::testing::{CountWork, Work};

impl Handler<CountWork> for Connection {
    type Result = MessageResult<CountWork>;

    fn handle(&mut self, _: CountWork, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Some(Work::new(self.heard, self.writer.writes())))
    }
}
