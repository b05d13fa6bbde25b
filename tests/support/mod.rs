//! What the tests against a real RabbitMQ share: `mod support;` at the top of a test file.
//!
//! - [`broker`]: which broker is tested, a virtual host of one's own, what the broker
//!   itself says (management API), the second node and the cluster, which may be stopped and killed;
//! - [`dialogue`]: our client and a scripted peer, past the steps that a test is not about;
//! - [`oracle`]: another client, to see with other eyes what ours did;
//! - [`peer`]: a client with a channel, and the scripted peer that it publishes to;
//! - [`proxy`]: a network between client and broker that can be made to misbehave;
//! - [`robust`]: a connection that recovers, behind a proxy that cuts it;
//! - [`tapped`]: a connection that is listened in on.
//!
//! Tests wait for events, never for time to pass: [`within`] puts a limit on any
//! await, [`eventually`] asks again until the answer is there.

pub mod broker;
pub mod dialogue;
pub mod modes;
pub mod oracle;
pub mod peer;
pub mod proxy;
pub mod robust;
pub mod tapped;

use actix_pika::{Delivery, testing::Probe};
use std::future::Future;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Awaits `future`, and panics with `what` when that takes more than `secs` seconds.
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

/// Asks `probe` again and again until it answers `Some`; panics with `what` after
/// `secs` seconds. For what only shows from outside, such as the management API,
/// which learns of most things after a second or two (five, if the broker is not our own).
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
                panic!("still not so after {secs} s: {what} ({at})");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A name that no other test, process or earlier run has used: `prefix-…`.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{prefix}-{now:x}-{:x}-{next}", std::process::id())
}

/// Takes `n` deliveries of a probe.
pub async fn take(probe: &mut Probe<Delivery>, n: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for _ in 0..n {
        deliveries.push(probe.next().await.unwrap());
    }
    deliveries
}
