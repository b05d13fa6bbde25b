//! Messages to actors under test: make one panic, and count what a connection or a supervisor has.

use actix::{Context, Handler, Message};

use crate::{Channel, Connection, Consumer, internal::ChannelMessage};

/// Makes the receiving actor panic: a Channel, a Connection, a Consumer, or a supervisor.
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

/// Makes the Connection actor of the receiving supervisor panic.
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

/// Returns the number of reads and writes of the current connection of a supervisor; `None` without one.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, Result, testing::GetIoCounts};
/// # async fn count(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// if let Some(counts) = connection.send(GetIoCounts).await? {
///     println!("{} reads, {} writes", counts.reads, counts.writes);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GetIoCounts;

/// The number of reads and writes of a connection.
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
    /// Reads from the socket that returned bytes.
    pub reads: u64,
    /// Writes to the socket that took bytes.
    pub writes: u64,
}

impl IoCounts {
    pub(crate) fn new(reads: u64, writes: u64) -> Self {
        Self { reads, writes }
    }
}

/// Returns how many entities a supervisor would redeclare after a reconnect.
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

/// The number of entities that a supervisor would redeclare after a reconnect.
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
    /// Bindings of queues and exchanges.
    pub bindings: usize,
    /// Consumers. Their channels start them, not the supervisor.
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
                panic!("requested by a test");
            }
        }
    )* };
}

// Panics where it handles frames and messages of the supervisor, too.
impl Handler<Panic> for Channel {
    type Result = ();

    fn handle(&mut self, _: Panic, ctx: &mut Context<Self>) {
        self.handle(ChannelMessage::Panic, ctx);
    }
}

panics! { Connection Consumer crate::ConnectionSupervisor }
