//! What no peer can do from outside: make an actor panic, and count what a connection does.

use actix::{Context, Handler, Message};

use crate::{Channel, Connection, Consumer};

/// Makes the actor that gets it panic: a Channel, a Consumer or a supervisor.
///
/// For tests of what becomes of those who wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Panic;

/// Makes the Connection actor of the supervisor that gets it panic.
#[derive(Clone, Copy, Debug)]
pub struct PanicConnection;

/// Asks a supervisor what its connection has done so far; `None` without one.
#[derive(Clone, Copy, Debug)]
pub struct CountWork;

/// What a connection has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// How often its socket gave something.
    pub reads: u64,
    /// How often its socket took something.
    pub writes: u64,
}

impl Work {
    pub(crate) fn new(reads: u64, writes: u64) -> Self {
        Self { reads, writes }
    }
}

impl Message for Panic {
    type Result = ();
}

impl Message for PanicConnection {
    type Result = ();
}

impl Message for CountWork {
    type Result = Option<Work>;
}

macro_rules! panics {
    ($($actor:ty)*) => { $(
        impl Handler<Panic> for $actor {
            type Result = ();

            fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
                panic!("a test asked for it");
            }
        }
    )* };
}

panics! { Channel Connection Consumer crate::ConnectionSupervisor }
