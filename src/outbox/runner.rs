//! Carries out what the [`machine`](super::machine) decides: asks the database, publishes, waits.

use std::{
    collections::HashMap,
    future::{poll_fn, ready},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use actix_pika_actors::facade;
use futures_util::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, pending},
    stream::FuturesUnordered,
};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    RelayEvent,
    batch::{Head, Verdict},
    machine::{Input, Machine, Output},
    relay::{DrainBy, Shared},
    row::{HeldRow, Hold, Message, Row},
    store,
};
use crate::{
    Channel, Connection, Error, ErrorKind, OpenChannel, Result,
    database::{self, OwnConnection},
};

/// Bodies and properties of a batch.
const BATCH_BYTES: usize = 16 << 20;

/// An answer of the database, which may be behind a network that drops everything.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

type Answer = (Option<OwnConnection>, Option<Channel>, Answered);

enum Answered {
    Leased(Option<i64>),
    Fetched(Vec<Row>),
    Settled(bool),
    Released,
    DatabaseFailed(Error),
    BrokerFailed(Error),
    ConnectionClosed(Error),
}

pub(super) struct Runner {
    shared: Arc<Shared>,
    machine: Machine,
    connection: Option<OwnConnection>,
    channel: Option<Channel>,
    answer: LocalBoxFuture<'static, Answer>,
    rows: HashMap<i64, Result<Message, String>>,
    publishes: FuturesUnordered<LocalBoxFuture<'static, (i64, Verdict, Option<Error>)>>,
    wakes: LocalBoxFuture<'static, ()>,
    drain: LocalBoxFuture<'static, DrainBy>,
    closed: LocalBoxFuture<'static, Error>,
    timer: Option<Pin<Box<Sleep>>>,
    /// What a settlement that is under way counts.
    counted: (u64, u64, u64),
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let machine = Machine::new(shared.holder.lease, shared.poll, Instant::now());
        Self {
            wakes: woken(shared.wakes.subscribe()).boxed_local(),
            drain: next_drain(shared.drain.subscribe(), None).boxed_local(),
            closed: closed(shared.connection.clone()).boxed_local(),
            machine,
            connection: None,
            channel: None,
            answer: pending().boxed_local(),
            rows: HashMap::new(),
            publishes: FuturesUnordered::new(),
            timer: None,
            counted: (0, 0, 0),
            shared,
        }
    }

    /// Runs until the relay has ended.
    pub(super) async fn run(mut self) {
        let mut input = Input::Started;
        loop {
            let now = Instant::now();
            for output in self.machine.step(input, now, fastrand::f64()) {
                if matches!(output, Output::Finish) {
                    self.shared.report.send_replace(Some(self.machine.report()));
                    return;
                }
                self.perform(output);
            }
            self.timer = self.machine.timer(now).map(|at| Box::pin(sleep_until(at)));
            input = poll_fn(|cx| self.poll_input(cx)).await;
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Lease => self.ask(async |shared, connection| {
                store::lease(connection.borrow(), &shared.names, &shared.holder).await.map(Answered::Leased)
            }),
            Output::Fetch => self.fetch(),
            Output::Settle { fence, published, held } => self.settle(fence, published, held),
            Output::Release { fence } => self.ask(async move |shared, connection| {
                store::release(connection.borrow(), &shared.names, &shared.holder, fence).await?;
                Ok(Answered::Released)
            }),
            Output::Publish(id) => self.publish(id),
            Output::Tell(RelayEvent::Ended(error)) => {
                if let Some(error) = &error {
                    log::error!("an outbox relay has ended: {error}");
                }
                self.shared.end(RelayEvent::Ended(error));
            }
            Output::Tell(event) => self.tell(&event),
            Output::Finish => {}
        }
    }

    fn tell(&self, event: &RelayEvent) {
        match event {
            RelayEvent::LeaseTaken { fence } => log::debug!("an outbox relay has the lease, fence {fence}"),
            RelayEvent::LeaseLost => log::warn!("an outbox relay has lost its lease to another one"),
            RelayEvent::Parked { message_id, reason, .. } => {
                log::warn!("the outbox message {message_id:?} is parked: {}", reason.escape_debug());
            }
            RelayEvent::DatabaseFailed { error, next_in } => {
                self.shared.counts.failures.fetch_add(1, Ordering::Relaxed);
                log::warn!("an outbox relay asks its database again in {next_in:?}: {error}");
            }
            RelayEvent::BrokerFailed { error, next_in } => {
                log::warn!("an outbox relay publishes again in {next_in:?}: {error}");
            }
            _ => {}
        }
        self.shared.tell(event);
    }

    /// Asks the database with the connection of the relay, or a new one.
    fn ask<F>(&mut self, question: F)
    where
        F: AsyncFnOnce(&Shared, &mut OwnConnection) -> Result<Answered> + 'static,
    {
        let (shared, known) = (self.shared.clone(), self.connection.take());
        let channel = self.channel.clone();
        let answer = async move {
            let mut connection = match known {
                Some(connection) => connection,
                None => OwnConnection::take(&shared.pool)
                    .await
                    .map_err(|error| database::failed("the relay has no connection", &error))?,
            };
            let answered = question(&shared, &mut connection).await?;
            Ok::<_, Error>((connection, answered))
        };
        self.answer = async move {
            match timeout(ANSWER_WITHIN, answer).await {
                Ok(Ok((connection, answered))) => (Some(connection), channel, answered),
                // The connection is dropped: it may be in a transaction.
                Ok(Err(error)) => (None, channel, Answered::DatabaseFailed(error)),
                Err(_) => {
                    let late = facade::database("the database did not answer in time", true);
                    (None, channel, Answered::DatabaseFailed(late))
                }
            }
        }
        .boxed_local();
    }

    fn settle(&mut self, fence: i64, published: Vec<i64>, held: Vec<HeldRow>) {
        let parked = held.iter().filter(|row| row.hold == Hold::Parked).count();
        self.counted = (published.len() as u64, parked as u64, (held.len() - parked) as u64);
        self.ask(async move |shared, connection| {
            let (names, holder) = (&shared.names, &shared.holder);
            store::settle(connection.borrow(), names, holder, fence, &published, &held)
                .await
                .map(Answered::Settled)
        });
    }

    /// Reads the next rows, and opens a channel for them if there is none.
    fn fetch(&mut self) {
        let open = self.channel.clone().filter(|channel| !channel.is_closed());
        self.ask(async |shared, connection| {
            store::fetch(connection.borrow(), &shared.names, shared.batch, BATCH_BYTES)
                .await
                .map(Answered::Fetched)
        });
        let (read, connection) =
            (std::mem::replace(&mut self.answer, pending().boxed_local()), self.shared.connection.clone());
        self.answer = async move {
            let (database, _, answered) = read.await;
            match (&answered, open) {
                (Answered::Fetched(rows), None) if !rows.is_empty() => {
                    match open_channel(&connection).await {
                        Ok(channel) => (database, Some(channel), answered),
                        Err(error) if connection.is_closed() => {
                            (database, None, Answered::ConnectionClosed(error))
                        }
                        Err(error) => (database, None, Answered::BrokerFailed(error)),
                    }
                }
                (_, open) => (database, open, answered),
            }
        }
        .boxed_local();
    }

    fn publish(&mut self, id: i64) {
        let (row, channel) = (self.rows.remove(&id), self.channel.clone());
        let publish = match (row, channel) {
            (Some(Ok(message)), Some(channel)) => async move {
                let exchange = channel.exchange(&message.exchange);
                let error = match exchange.publish_deferred(message.publishing, &message.routing_key).await {
                    Ok(confirm) => match confirm.await {
                        Ok(_) => return (id, Verdict::Published, None),
                        Err(error) => error,
                    },
                    // Not sent: the channel was closed for another message.
                    Err(error) if channel.is_closed() => return (id, Verdict::Unavailable, Some(error)),
                    Err(error) => error,
                };
                (id, verdict(&error), Some(error))
            }
            .boxed_local(),
            (Some(Err(reason)), _) => ready((id, Verdict::Refused(reason), None)).boxed_local(),
            (None, _) | (_, None) => ready((id, Verdict::Unavailable, None)).boxed_local(),
        };
        self.publishes.push(publish);
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(DrainBy { cut, end }) = self.drain.poll_unpin(cx) {
            self.drain = next_drain(self.shared.drain.subscribe(), Some(end)).boxed_local();
            return Poll::Ready(Input::Drain { cut, end });
        }
        if let Poll::Ready(Some((id, verdict, error))) = self.publishes.poll_next_unpin(cx) {
            if matches!(verdict, Verdict::Unavailable)
                && let Some(error) = &error
                && self.shared.connection.is_closed()
            {
                // It is told once more by the next question.
                log::debug!("the connection of an outbox relay has ended: {error}");
            }
            return Poll::Ready(Input::Published(id, verdict, error));
        }
        if let Poll::Ready((connection, channel, answered)) = self.answer.poll_unpin(cx) {
            self.answer = pending().boxed_local();
            (self.connection, self.channel) = (connection, channel);
            return Poll::Ready(self.take(answered));
        }
        // Behind the publishes, which fail with it, and an answer. A relay that has nothing to publish hears of it only here.
        if let Poll::Ready(error) = self.closed.poll_unpin(cx) {
            self.closed = pending().boxed_local();
            return Poll::Ready(Input::ConnectionClosed(error));
        }
        if self.wakes.poll_unpin(cx).is_ready() {
            self.wakes = woken(self.shared.wakes.subscribe()).boxed_local();
            return Poll::Ready(Input::Woken);
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| Input::Timer),
            None => Poll::Pending,
        }
    }

    fn take(&mut self, answered: Answered) -> Input {
        match answered {
            Answered::Leased(fence) => Input::Leased(fence),
            Answered::Fetched(rows) => {
                let head = |row: &Row| Head {
                    id: row.id,
                    message_id: row
                        .message
                        .as_ref()
                        .map(|message| message.message_id.clone())
                        .unwrap_or_default(),
                    lane: row.lane.clone(),
                    tries: row.tries,
                };
                let heads = rows.iter().map(head).collect();
                self.rows = rows.into_iter().map(|row| (row.id, row.message)).collect();
                Input::Fetched(heads)
            }
            Answered::Settled(is_done) => {
                if is_done {
                    let counts = &self.shared.counts;
                    let (published, parked, retried) = self.counted;
                    counts.published.fetch_add(published, Ordering::Relaxed);
                    counts.parked.fetch_add(parked, Ordering::Relaxed);
                    counts.retried.fetch_add(retried, Ordering::Relaxed);
                }
                Input::Settled(is_done)
            }
            Answered::Released => Input::Released,
            Answered::DatabaseFailed(error) => Input::DatabaseFailed(error),
            Answered::BrokerFailed(error) => Input::BrokerFailed(error),
            Answered::ConnectionClosed(error) => Input::ConnectionClosed(error),
        }
    }
}

async fn open_channel(connection: &Connection) -> Result<Channel> {
    connection.channel_with(OpenChannel::new().window_bytes(2 * BATCH_BYTES)).await
}

/// Returns what an error says about the message of a publish.
fn verdict(error: &Error) -> Verdict {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Nacked => Verdict::NotNow(text),
        // It passes, such as a limit of connections at a reconnect.
        _ if error.is_retryable() => Verdict::Unavailable,
        ErrorKind::Unroutable | ErrorKind::Codec | ErrorKind::Limit | ErrorKind::Refused => {
            Verdict::Refused(text)
        }
        // The broker has closed the channel for this publish.
        ErrorKind::ChannelClosed => match error.code() {
            // Too large, or with a property that it does not accept.
            Some(406) => Verdict::Refused(text),
            // An exchange that is missing or forbidden may be there later.
            Some(_) => Verdict::NotNow(text),
            None => Verdict::Unavailable,
        },
        _ => Verdict::Unavailable,
    }
}

/// Waits until the connection has ended for good.
async fn closed(connection: Connection) -> Error {
    let by_us = || facade::connection_closed("the application has closed the connection");
    connection.closed().await.err().unwrap_or_else(by_us)
}

/// Waits until something is written.
async fn woken(mut wakes: watch::Receiver<()>) {
    if wakes.changed().await.is_err() {
        pending().await
    }
}

/// Waits until a drain has to be done earlier than known.
async fn next_drain(mut asked: watch::Receiver<Option<DrainBy>>, known: Option<Instant>) -> DrainBy {
    let earlier = |by: &Option<DrainBy>| by.is_some_and(|by| known.is_none_or(|known| by.end < known));
    match asked.wait_for(earlier).await.map(|by| *by) {
        Ok(Some(by)) => by,
        _ => pending().await,
    }
}
