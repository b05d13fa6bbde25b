//! What waits in an outbox, asked of its database.

use std::time::Duration;

use ::metrics::{Key, Label, with_recorder};
use tokio::time::sleep;

use super::{METADATA, names};
use crate::{Result, outbox::OutboxRelay, runtime, shutdown::Drain};

/// How often the database is asked.
const PERIOD: Duration = Duration::from_secs(5);

/// Reports what waits in the outbox of a relay, until the relay is drained.
///
/// Its database counts the messages every five seconds. The label `outbox` is the name of the table. Of several relays of
/// one outbox, each reports the same; outboxes of several databases need [prefixes](crate::outbox::Outbox::prefix) that
/// differ. After the drain, the last values stay.
///
/// # Errors
/// `Stopped` if there is neither a `System` nor a runtime.
///
/// **Over a reconnect**: it goes on. While the database fails, the last values stay.
///
/// # Examples
/// ```no_run
/// # fn run(relay: actix_pika::outbox::OutboxRelay) -> actix_pika::Result<()> {
/// actix_pika::metrics::watch_outbox(&relay)?;
/// # Ok(()) }
/// ```
pub fn watch_outbox(relay: &OutboxRelay) -> Result<()> {
    names::describe();
    let relay = relay.clone();
    runtime::spawn(async move {
        let outbox = Drain::name(&relay);
        while relay.is_running() {
            match relay.lag().await {
                Ok(lag) => {
                    let oldest = lag.oldest.unwrap_or_default();
                    report(&outbox, names::OUTBOX_LAG, oldest.as_secs_f64());
                    report(&outbox, names::OUTBOX_WAITING, lag.waiting as f64);
                    report(&outbox, names::OUTBOX_PARKED, lag.parked as f64);
                }
                Err(error) => log::debug!("outbox {outbox:?}: its lag is not known: {error}"),
            }
            sleep(PERIOD).await;
        }
    })
}

fn report(outbox: &str, name: &'static str, value: f64) {
    let key = Key::from_parts(name, vec![Label::new("outbox", outbox.to_owned())]);
    with_recorder(|to| to.register_gauge(&key, &METADATA).set(value));
}
