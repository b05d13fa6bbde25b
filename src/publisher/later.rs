//! Delayed messages: a queue for each delay, whose messages expire to the exchange of the publisher.

use std::{collections::BTreeMap, time::Duration};

use actix_pika_actors::facade;
use tokio::sync::Mutex;

use crate::{
    DeclareExchange, DeclareQueue, Exchange, Result,
    options::{DeadLetterStrategy, Overflow},
};

/// Delays of a publisher and its clones.
const MOST_DELAYS: usize = 64;

/// The largest `x-message-ttl` that RabbitMQ accepts: ten years.
const LONGEST: Duration = Duration::from_millis(315_360_000_000);

/// The exchanges that delay messages.
#[derive(Default)]
pub(super) struct Later {
    delays: Mutex<Delays<Exchange>>,
}

impl Later {
    /// Returns the exchange whose messages arrive at `target` after a delay, and declares it if that is new.
    ///
    /// # Errors
    /// `Limit`, `Refused` for a queue that the broker names, and those of the declarations.
    pub(super) async fn exchange(&self, target: &Exchange, key: &str, delay: Duration) -> Result<Exchange> {
        let mut delays = self.delays.lock().await;
        match delays.place(delay)? {
            Place::Now => Ok(target.clone()),
            // The broker refuses such names to applications.
            _ if target.name().is_empty() && key.starts_with("amq.") => {
                let why = "a queue that the broker names has another name after a reconnect, and what is delayed for it \
                           would be lost";
                Err(facade::queue_refused(why, key))
            }
            Place::Known(exchange) => Ok(exchange.clone()),
            Place::New { millis } => {
                let exchange = declare(target, millis).await?;
                delays.known.insert(millis, exchange.clone());
                Ok(exchange)
            }
        }
    }
}

/// What is known for each delay, in milliseconds.
struct Delays<E> {
    known: BTreeMap<u64, E>,
}

impl<E> Default for Delays<E> {
    fn default() -> Self {
        Self { known: BTreeMap::new() }
    }
}

/// Where a delayed message is published.
#[derive(Debug, PartialEq)]
enum Place<'a, E> {
    /// At its target.
    Now,
    Known(&'a E),
    New {
        millis: u64,
    },
}

impl<E> Delays<E> {
    fn place(&self, delay: Duration) -> Result<Place<'_, E>> {
        let delay = round_up(delay);
        if delay > LONGEST {
            return Err(facade::limit("a delay is ten years at most"));
        }
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        match self.known.get(&millis) {
            _ if millis == 0 => Ok(Place::Now),
            Some(known) => Ok(Place::Known(known)),
            None if self.known.len() < MOST_DELAYS => Ok(Place::New { millis }),
            None => Err(facade::limit(format!("a publisher has {MOST_DELAYS} different delays at most"))),
        }
    }
}

/// Declares a fanout exchange, which keeps the routing key, and its queue.
async fn declare(target: &Exchange, millis: u64) -> Result<Exchange> {
    let (channel, name) = (target.channel(), name(target.name(), millis));
    let queue = DeclareQueue::new(&*name)
        .quorum()
        .message_ttl(Duration::from_millis(millis))
        .dead_letter_exchange(target.name())
        .dead_letter_strategy(DeadLetterStrategy::AtLeastOnce)
        .overflow(Overflow::RejectPublish);
    let exchange = channel.declare_exchange(DeclareExchange::fanout(&*name)).await?;
    channel.declare_queue(queue).await?.bind(&name, "").await?;
    Ok(exchange)
}

fn name(target: &str, millis: u64) -> String {
    if target.is_empty() { format!("later.{millis}") } else { format!("later.{target}.{millis}") }
}

/// Rounds a delay up, so that few different ones are left, and round ones are kept.
fn round_up(delay: Duration) -> Duration {
    const SECOND: u128 = 1_000;
    const MINUTE: u128 = 60 * SECOND;
    const HOUR: u128 = 60 * MINUTE;
    let millis = delay.as_nanos().div_ceil(1_000_000);
    let unit = match millis {
        0..=10_000 => 100,
        10_001..=600_000 => SECOND,
        600_001..=36_000_000 => MINUTE,
        _ => HOUR,
    };
    Duration::from_millis(u64::try_from(millis.div_ceil(unit) * unit).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up_to_units_that_grow_with_them() {
        let rounded = |millis| round_up(Duration::from_millis(millis)).as_millis();
        for round in [0, 100, 1_500, 10_000, 90_000, 600_000, 36_000_000, 86_400_000] {
            assert_eq!(rounded(round), u128::from(round));
        }
        assert_eq!(round_up(Duration::from_nanos(1)).as_millis(), 100);
        assert_eq!((rounded(101), rounded(10_001), rounded(600_001)), (200, 11_000, 660_000));
        assert_eq!(rounded(36_000_001), 39_600_000);
        assert!(round_up(Duration::MAX) > LONGEST);
    }

    #[test]
    fn a_publisher_has_a_bounded_number_of_delays() {
        let mut delays = Delays::default();
        assert_eq!(delays.place(Duration::ZERO).unwrap(), Place::Now);
        for n in 1..=64 {
            let Place::New { millis } = delays.place(Duration::from_secs(n)).unwrap() else { panic!("{n}") };
            delays.known.insert(millis, n);
        }
        assert_eq!(delays.place(Duration::from_millis(1_901)).unwrap(), Place::Known(&2));
        let refused = [Duration::from_secs(65), LONGEST + Duration::from_millis(1), Duration::MAX];
        for error in refused.map(|delay| delays.place(delay).unwrap_err()) {
            assert_eq!(error.kind(), crate::ErrorKind::Limit, "{error}");
        }
    }

    #[test]
    fn the_names_differ_by_target_and_delay() {
        assert_eq!(name("", 100), "later.100");
        assert_eq!(name("amq.topic", 100), "later.amq.topic.100");
    }
}
