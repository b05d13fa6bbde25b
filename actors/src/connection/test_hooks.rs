//! Handlers for tests: counts of reads and writes.

use actix::{Context, Handler, MessageResult};

use super::Connection;
use crate::testing::{GetIoCounts, IoCounts};

impl Handler<GetIoCounts> for Connection {
    type Result = MessageResult<GetIoCounts>;

    fn handle(&mut self, _: GetIoCounts, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Some(IoCounts::new(self.reads, self.writer.writes())))
    }
}
