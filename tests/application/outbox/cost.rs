//! What the outbox costs. By hand:
//!
//! ```sh
//! cargo test --all-features --test application outbox::cost -- --ignored --nocapture --test-threads=1
//! ```

#![allow(clippy::print_stderr, reason = "it prints what it has measured")]

use super::LIMIT;
use crate::support::{broker::Vhost, oracle::Oracle, within};
use actix_pika::{codec::Raw, connect, outbox::To};
use std::time::{Duration, Instant};

/// Prints one line, by the median of many.
fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    eprintln!("{what}: {:?}", times[times.len() / 2]);
}

on_databases! {
    #[ignore = "a measurement, not a check"]
    async fn of_a_publish_and_of_the_relay(pool, outbox) {
        const ROWS: u32 = 5_200;
        let name = std::any::type_name_of_val(&pool);
        sqlx::query("create table orders (id integer)").execute(&pool).await.unwrap();
        for (what, lane) in [("without publish", None), ("with publish", Some(None)), ("with a lane", Some(Some(1)))] {
            let mut times = Vec::new();
            for n in 0..300 {
                let begun = Instant::now();
                let mut tx = outbox.begin().await.unwrap();
                sqlx::query("insert into orders values ($1)").bind(n).execute(&mut *tx).await.unwrap();
                if let Some(lane) = lane {
                    let to = To::queue("orders").codec(Raw);
                    let to = match lane { Some(lane) => to.lane(lane), None => to };
                    outbox.publish(&mut tx, to, &"x".repeat(100)).await.unwrap();
                }
                tx.commit().await.unwrap();
                times.push(begun.elapsed());
            }
            print(&format!("{name}: a transaction {what}"), times);
        }
        sqlx::query("delete from pika_outbox").execute(&pool).await.unwrap();
        let vhost = Vhost::fresh().await;
        let connection = connect(vhost.url()).await.unwrap();
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        for lanes in [None, Some(100), Some(1)] {
            let body = "x".repeat(100);
            let mut tx = outbox.begin().await.unwrap();
            let to = |n: u32| {
                let to = To::queue("orders").codec(Raw);
                match lanes { Some(lanes) => to.lane(n % lanes), None => to }
            };
            outbox.publish_all(&mut tx, (0..ROWS).map(|n| (to(n), &body))).await.unwrap();
            tx.commit().await.unwrap();
            let begun = Instant::now();
            let relay = outbox.relay(&connection).start().await.unwrap();
            let empty = async { while outbox.lag().await.unwrap().waiting > 0 { tokio::time::sleep(Duration::from_millis(5)).await; } };
            within("the relay", 120, empty).await;
            let rate = f64::from(ROWS) / begun.elapsed().as_secs_f64();
            eprintln!("{name}: {ROWS} rows in {:?}, {rate:.0} a second, lanes: {lanes:?}", begun.elapsed());
            within("the drain", 10, relay.drain(LIMIT)).await;
        }
    }
}
