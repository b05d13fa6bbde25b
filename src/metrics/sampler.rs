//! Reads the connections that are watched, and tells the recorder.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::metrics::{Key, Label, Recorder, with_recorder};
use actix_pika_actors::{ConnectionState, facade::ConnectionTally};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, timeout},
};

use super::{
    METADATA,
    groups::{Groups, Totals, Watch},
    names,
};
use crate::{Result, runtime};

/// How often connections are read.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// The label of connections without a name.
pub(super) const UNNAMED: &str = "unnamed";

static GROUPS: Mutex<Groups> = Mutex::new(Groups::new());

/// Watches a connection until it is closed.
///
/// # Errors
/// `Stopped` if there is neither a `System` nor a runtime.
pub(super) fn watch(tally: &Arc<ConnectionTally>, state: &Receiver<ConnectionState>) -> Result<()> {
    names::describe();
    let read = tally.clone();
    let name = tally.name().filter(|name| !name.is_empty()).unwrap_or(UNNAMED);
    let watch = groups().add(name, Box::new(move |now| read.sample(now)));
    let watched = Watched { watch, tally: tally.clone(), state: state.clone() };
    record(&watched.watch.label, Duration::ZERO);
    runtime::spawn(watched.run())
}

/// Reads all connections now.
pub(super) fn sample() {
    let labels: Vec<String> = groups().labels().cloned().collect();
    labels.iter().for_each(|label| record(label, Duration::ZERO));
}

/// A connection until it is closed. It holds no handle, so the connection closes without regard to it.
struct Watched {
    watch: Watch,
    tally: Arc<ConnectionTally>,
    state: Receiver<ConnectionState>,
}

impl Watched {
    async fn run(mut self) {
        loop {
            let closed = self.state.wait_for(|state| matches!(state, ConnectionState::Closed(_)));
            // An error means that its actor has ended.
            let is_closed = timeout(PERIOD, closed).await.is_ok();
            // Another connection of its label may come first, and then be late.
            record(&self.watch.label, if is_closed { Duration::ZERO } else { PERIOD / 2 });
            if is_closed {
                break;
            }
        }
        // Its channels hear that it is closed, and may still count until then.
        if self.tally.sample(Instant::now()).channels > 0 {
            tokio::time::sleep(PERIOD).await;
        }
    }
}

impl Drop for Watched {
    // Also if its runtime ends first.
    fn drop(&mut self) {
        groups().end(&self.watch, Instant::now());
        record(&self.watch.label, Duration::ZERO);
    }
}

fn groups() -> MutexGuard<'static, Groups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the recorder the totals of a label, unless that was done less than `pause` ago.
fn record(label: &str, pause: Duration) {
    // Two threads must not report one after the other what they have read in the opposite order.
    let mut groups = groups();
    if let Some(totals) = groups.sample(label, pause, Instant::now()) {
        with_recorder(|recorder| report(recorder, label, &totals));
    }
}

fn report(recorder: &dyn Recorder, label: &str, totals: &Totals) {
    let connection = Label::new("connection", label.to_owned());
    let with = |name, more: Option<Label>| {
        let labels: Vec<Label> = std::iter::once(connection.clone()).chain(more).collect();
        Key::from_parts(name, labels)
    };
    let counter = |key, value| recorder.register_counter(&key, &METADATA).absolute(value);
    let gauge = |key, value: usize| recorder.register_gauge(&key, &METADATA).set(value as f64);

    let channels = totals.counters.channels;
    for (name, value) in [
        (names::PUBLISHED, channels.published),
        (names::CONFIRMED, channels.confirmed),
        (names::NACKED, channels.publishes_nacked),
        (names::RETURNED, channels.returned),
        (names::DELIVERED, channels.delivered),
        (names::REDELIVERED, channels.redelivered),
        (names::REQUEUED, channels.requeued),
        (names::RECONNECTS, totals.counters.reconnects),
        (names::BLOCKED, totals.counters.blocked.as_millis().try_into().unwrap_or(u64::MAX)),
    ] {
        counter(with(name, None), value);
    }
    for (outcome, value) in [
        ("ack", channels.acked),
        ("nack", channels.deliveries_nacked),
        ("reject", channels.deliveries_rejected),
    ] {
        counter(with(names::SETTLED, Some(Label::from_static_parts("outcome", outcome))), value);
    }
    for (name, value) in [
        (names::UNCONFIRMED, totals.load.unconfirmed),
        (names::UNCONFIRMED_BYTES, totals.load.bytes),
        (names::WAITING, totals.load.waiting),
        (names::UNSETTLED, totals.load.unsettled),
        (names::CHANNELS, totals.channels),
        (names::MISSING, totals.missing),
    ] {
        gauge(with(name, None), value);
    }
    for (state, value) in [("up", totals.up), ("degraded", totals.degraded), ("down", totals.down)] {
        gauge(with(names::CONNECTIONS, Some(Label::from_static_parts("state", state))), value);
    }
}
