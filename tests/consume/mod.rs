//! Consuming: consumers, streams of deliveries, `basic.get`, prefetch, settling.

use actix_pika::Delivery;

mod basics;
mod batches;
mod consumer_ends;
mod delivery_counts;
mod drain;
mod failing_handlers;
mod get;
mod handlers;
mod prefetch_bytes;
mod process;
mod qos;
mod read_ahead;
mod refused_consumes;
mod settle_frames;
mod split;
mod stream;
mod targets;

/// The bodies "0" to `n - 1`.
fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|n| n.to_string()).collect()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().to_vec()).unwrap()
}
