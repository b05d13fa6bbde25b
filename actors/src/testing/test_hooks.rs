//! What no peer can do from outside: make an actor panic, and count what a connection does.

use actix::{Context, Handler, Message};

use crate::{Channel, Connection, Consumer, message::internal::ChannelMessage};

/// Makes the actor that gets it panic: a Channel, a Consumer or a supervisor.
///
/// For tests of what becomes of those who wait for it.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, Error, testing::Panic};
/// # async fn poke(channel: Addr<Channel>) {
/// assert!(channel.send(Panic).await.is_err());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Panic;

/// Makes the Connection actor of the supervisor that gets it panic.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, Result, testing::PanicConnection};
/// # async fn poke(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// connection.send(PanicConnection).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PanicConnection;

/// Asks a supervisor what its connection has done so far; `None` without one.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, Result, testing::GetIoCounts};
/// # async fn count(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// if let Some(work) = connection.send(GetIoCounts).await? {
///     println!("{} reads, {} writes", work.reads, work.writes);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GetIoCounts;

/// Tells what a connection has done so far.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::IoCounts;
/// fn since(before: IoCounts, now: IoCounts) -> u64 {
///     now.writes - before.writes
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoCounts {
    /// How often its socket gave something.
    pub reads: u64,
    /// How often its socket took something.
    pub writes: u64,
}

impl IoCounts {
    pub(crate) fn new(reads: u64, writes: u64) -> Self {
        Self { reads, writes }
    }
}

/// Asks a supervisor what it would declare again.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, Result, testing::GetRecordCounts};
/// # async fn count(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// assert_eq!(connection.send(GetRecordCounts).await?.queues, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GetRecordCounts;

/// Tells what a supervisor would declare again.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::RecordCounts;
/// fn is_empty(records: RecordCounts) -> bool {
///     records.exchanges + records.queues + records.bindings + records.consumers == 0
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Exchanges.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// Bindings of queues and of exchanges.
    pub bindings: usize,
    /// Consumers, which channels start again by themselves.
    pub consumers: usize,
}

impl RecordCounts {
    pub(crate) fn new([exchanges, queues, bindings, consumers]: [usize; 4]) -> Self {
        Self { exchanges, queues, bindings, consumers }
    }
}

impl Message for GetRecordCounts {
    type Result = RecordCounts;
}

impl Message for Panic {
    type Result = ();
}

impl Message for PanicConnection {
    type Result = ();
}

impl Message for GetIoCounts {
    type Result = Option<IoCounts>;
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

// As the broker's frames and the supervisor's letters would.
impl Handler<Panic> for Channel {
    type Result = ();

    fn handle(&mut self, _: Panic, ctx: &mut Context<Self>) {
        self.handle(ChannelMessage::Panic, ctx);
    }
}

panics! { Connection Consumer crate::ConnectionSupervisor }
