//! The time from the start of a broker to the first delivery of a client, who is as fast as a client can be.

use std::time::{Duration, Instant};

use actix_pika_broker::Broker;

use super::{
    Result,
    client::{Client, DELIVER, QUEUE_DECLARED, publish},
};

const ROUNDS: usize = 200;
const TOGETHER: usize = 200;

pub(super) fn measure() -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        took.push(start_to_delivery()?);
    }
    took.sort_unstable();
    let at = |part: usize| took.get(part * (ROUNDS - 1) / 100).copied().unwrap_or_default();
    println!("start to first delivery: median {:.1?}, 90 % {:.1?}, most {:.1?}", at(50), at(90), at(100));
    let start = Instant::now();
    let brokers = (0..TOGETHER).map(|_| Broker::start()).collect::<std::result::Result<Vec<_>, _>>()?;
    println!("start of {TOGETHER} brokers side by side: {:.1?}", start.elapsed());
    drop(brokers);
    Ok(())
}

fn start_to_delivery() -> Result<Duration> {
    let start = Instant::now();
    let broker = Broker::start()?;
    let mut client = Client::connect(broker.port())?;
    client.call(b"\0\x32\0\x0a\0\0\x01q\x02\0\0\0\0", QUEUE_DECLARED)?;
    client.call(b"\0\x3c\0\x14\0\0\x01q\x01c\0\0\0\0\0", [0, 60, 0, 21])?;
    client.send(&publish("q", b"hello"))?;
    let mut delivered = false;
    while !delivered {
        client.read(|payload| delivered |= payload.starts_with(&DELIVER))?;
    }
    Ok(start.elapsed())
}
