//! Shared by the tests against a real RabbitMQ.
//!
//! - [`broker`]: the broker under test, virtual hosts, the management API, nodes that a test may stop or kill;
//! - [`modes`]: runs a test with publisher confirms on and off;
//! - [`oracle`]: another client, to check results independently;
//! - [`proxy`]: a network between client and broker that injects faults;
//! - [`recorded_connection`]: a connection whose frames are recorded;
//! - [`robust_connection`]: a connection that recovers, behind a proxy that cuts it;
//! - [`scripted_peer`]: a client connected to a scripted peer;
//! - [`services`]: software that tests talk to besides RabbitMQ.
//!
//! Tests wait for events and do not sleep: [`within`] limits the time of a future, [`eventually`] polls until a
//! condition holds.

pub mod broker;
pub mod modes;
pub mod oracle;
pub mod proxy;
pub mod recorded_connection;
pub mod robust_connection;
pub mod scripted_peer;
pub mod services;

use actix_pika::{Channel, Delivery, Queue, testing::Probe};
use std::future::Future;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Awaits `future`, and panics with `what` if that takes more than `secs` seconds.
#[track_caller]
pub fn within<T>(what: &str, secs: u64, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(secs), future).await {
            Ok(value) => value,
            Err(_) => panic!("not within {secs} s: {what} ({at})"),
        }
    }
}

/// Calls `probe` every 50 milliseconds until it returns `Some`, and panics with `what` after `secs` seconds. For
/// conditions that can only be polled, such as those of the management API, which is a second or two behind (up to five
/// seconds on a broker other than the project's own).
#[track_caller]
pub fn eventually<T, F, Fut>(what: &str, secs: u64, mut probe: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let at = Location::caller();
    async move {
        let until = Instant::now() + Duration::from_secs(secs);
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            if Instant::now() >= until {
                panic!("not within {secs} s: {what} ({at})");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Returns a name that no other test, process or earlier run uses: `prefix-...`.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{prefix}-{now:x}-{:x}-{next}", std::process::id())
}

/// Waits until a channel has this many deliveries that are not settled.
#[track_caller]
pub fn until_unsettled(channel: &Channel, deliveries: usize) -> impl Future<Output = ()> {
    eventually("unsettled deliveries", 10, move || {
        std::future::ready((channel.load().unsettled == deliveries).then_some(()))
    })
}

/// Takes the next `n` deliveries of a probe.
pub async fn take(probe: &mut Probe<Delivery>, n: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for _ in 0..n {
        deliveries.push(probe.next().await.unwrap());
    }
    deliveries
}

/// Polls `basic.get` until the queue returns a message.
pub async fn get_message(queue: &Queue) -> Delivery {
    eventually("a message", 10, async || queue.get().await.unwrap()).await
}
