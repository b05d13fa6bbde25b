//! Processes with an outbox and an inbox that are killed (SIGKILL) or stopped (SIGSTOP) at every step: each effect
//! happens once, and none is lost.
//!
//! A shop writes orders and their messages in one transaction, a relay publishes them, and billing writes a bill for each
//! with the id of its message. A process kills itself at the steps of its own code. At those of the relay and the
//! broker, a proxy or a lock in the database holds it until it is killed.

mod program;
mod rig;
mod shop;

use self::{
    program::Role,
    rig::Rig,
    shop::{LEASE, POINTS},
};
use crate::support::{eventually, proxy::Direction, within};

const ALL: &[Role] = &[Role::Shop, Role::Relay, Role::Billing];
const ACK: (u16, u16) = (60, 80);

/// Kills whole applications, and their parts, at each step of the tables of outbox and inbox.
async fn killed_at_every_step(mut rig: Rig) {
    // What an application does between its own statements.
    for point in POINTS {
        for hit in [1, 3, 5] {
            rig.orders += 5;
            let mut process = rig.start_that_kills_itself(ALL, (point, hit));
            let killed = || std::future::ready(process.is_killed().then_some(()));
            eventually(&format!("the end at {point:?}"), 60, killed).await;
            rig.kills += 1;
        }
    }
    rig.finish().await;
    rig.until_no_consumer().await;
    // The acks of the last copies may have been lost with their process: the management counts messages late.
    rig.oracle.drain_bodies("orders").await;

    // Before the publish arrives.
    let (mut relay, proxy) = rig.start_relay().await;
    rig.place(5).await;
    rig.until_outbox_is_empty().await;
    proxy.stall(Direction::ToBroker);
    rig.place(5).await;
    rig.until_lease_renewed().await;
    rig.until_lease_renewed().await;
    relay.kill();
    rig.kills += 1;
    drop(proxy);
    assert_eq!((rig.oracle.count("orders").await, rig.shop.count("pika_outbox").await), (5, 5));

    // The publish has arrived, the confirm has not.
    let (mut relay, proxy) = rig.start_relay().await;
    rig.oracle.wait_for_count("orders", 10).await;
    rig.until_outbox_is_empty().await;
    proxy.stall(Direction::ToClient);
    rig.place(5).await;
    rig.oracle.wait_for_count("orders", 15).await;
    relay.kill();
    rig.kills += 1;
    assert_eq!(rig.shop.count("pika_outbox").await, 5);

    // The confirm has arrived, the rows are not deleted. Those that were published twice are in the queue twice.
    let (mut relay, proxy) = rig.start_relay().await;
    rig.oracle.wait_for_count("orders", 20).await;
    rig.until_outbox_is_empty().await;
    proxy.stall(Direction::ToClient);
    rig.place(5).await;
    rig.oracle.wait_for_count("orders", 25).await;
    let lock = rig.shop.lock().await;
    let acks = || {
        let recordings = proxy.recordings();
        let frames = recordings.iter().flat_map(|recording| recording.frames(Direction::ToClient));
        frames.filter(|frame| frame.method() == Some(ACK)).count()
    };
    let before = acks();
    proxy.resume(Direction::ToClient);
    within("a confirm", 20, proxy.wait_for_method(Direction::ToClient, ACK, before + 1)).await;
    let waits = async || rig.shop.is_waited_for().await.then_some(());
    eventually("the relay waits to delete what is published", 20, waits).await;
    relay.kill();
    rig.kills += 1;
    lock.release().await;
    assert_eq!(rig.shop.count("pika_outbox").await, 5);

    // The rows are deleted.
    let (mut relay, _proxy) = rig.start_relay().await;
    rig.oracle.wait_for_count("orders", 30).await;
    rig.until_outbox_is_empty().await;
    relay.kill();
    rig.kills += 1;

    // The consumer has acknowledged.
    let (mut billing, proxy) = rig.start_behind_proxy(&[Role::Billing]).await;
    within("the acks", 30, proxy.wait_for_method(Direction::ToBroker, ACK, 1)).await;
    billing.kill();
    rig.kills += 1;
    drop(proxy);
    rig.finish().await;
    rig.report("killed at every step").await;
}

/// Kills whole applications at any place.
async fn killed_anywhere(mut rig: Rig) {
    for round in 0..10 {
        rig.orders += 20;
        let (mut process, proxy) = rig.start_behind_proxy(ALL).await;
        within("some work", 60, proxy.wait_for_bytes(Direction::ToBroker, 700 + 300 * round)).await;
        process.kill();
        rig.kills += 1;
    }
    rig.finish().await;
    rig.report("killed anywhere").await;
}

/// Two whole applications, beside another that places orders.
async fn two_side_by_side(mut rig: Rig) {
    let _both = [rig.start(&[Role::Relay, Role::Billing]), rig.start(&[Role::Relay, Role::Billing])];
    rig.orders = 200;
    let _shop = rig.start(&[Role::Shop]);
    rig.until_done().await;
    rig.finish().await;
    rig.report("two side by side").await;
}

/// Kills the relay that has the lease, several times; another takes over.
async fn the_holder_is_killed(mut rig: Rig) {
    let _billing = rig.start(&[Role::Billing]);
    let mut holder = rig.start(&[Role::Relay]);
    let mut fence = rig.until_lease_is_held(0).await;
    for _ in 0..5 {
        let next = rig.start(&[Role::Relay]);
        rig.place(10).await;
        holder.kill();
        rig.kills += 1;
        fence = rig.until_lease_is_held(fence + 1).await;
        rig.until_done().await;
        holder = next;
    }
    drop(holder);
    rig.finish().await;
    rig.report("the holder is killed").await;
}

/// Stops the relay that has the lease, with rows under way, until another has published them; then lets it go on.
async fn the_holder_is_stopped_beyond_its_lease(mut rig: Rig) {
    let _billing = rig.start(&[Role::Billing]);
    let (stopped, proxy) = rig.start_relay().await;
    rig.place(7).await;
    rig.until_done().await;
    let (fence, _) = rig.shop.lease().await.unwrap();
    proxy.stall(Direction::ToBroker);
    rig.place(21).await;
    // It has read them, and waits for confirms.
    rig.until_lease_renewed().await;
    rig.until_lease_renewed().await;
    stopped.pause();
    let mut other = rig.start(&[Role::Relay]);
    assert_eq!(rig.until_lease_is_held(fence + 1).await, fence + 1);
    rig.until_done().await;
    rig.place(7).await;
    rig.until_done().await;
    stopped.resume();
    proxy.resume(Direction::ToBroker);
    // The first row of each of the 7 lanes was under way.
    let copies = async || (rig.shop.count("copies").await >= 7).then_some(());
    eventually("the copies of what was under way", 30, copies).await;
    rig.place(7).await;
    rig.until_done().await;
    // A busy machine may renew a lease too late, and then what was under way is published once more.
    let was_kept = rig.shop.lease().await.unwrap().0 == fence + 1;
    // It has lost nothing but time: it takes over again.
    other.kill();
    rig.kills += 1;
    let taken = rig.until_lease_is_held(fence + 2).await;
    rig.place(7).await;
    rig.until_done().await;
    drop(stopped);
    rig.finish().await;
    if was_kept {
        assert_eq!((taken, rig.shop.count("copies").await), (fence + 2, 7));
    }
    rig.report("the holder is stopped beyond its lease").await;
}

macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident: $run:ident;)*) => {
        mod sqlite {
            use super::*;
            $(
                $(#[$doc])*
                #[actix::test]
                async fn $name() {
                    $run(Rig::sqlite().await).await;
                }
            )*
        }
        mod postgres {
            use super::*;
            $(
                $(#[$doc])*
                #[actix::test]
                async fn $name() {
                    if let Some(rig) = Rig::postgres().await {
                        $run(rig).await;
                    }
                }
            )*
        }
    };
}

on_both! {
    /// KIL-01
    an_application_that_is_killed_at_every_step_has_each_effect_once: killed_at_every_step;
    /// KIL-02
    an_application_that_is_killed_anywhere_has_each_effect_once: killed_anywhere;
    /// KIL-03
    two_applications_side_by_side_have_each_effect_once: two_side_by_side;
    /// KIL-04
    another_relay_takes_over_when_the_holder_of_the_lease_is_killed: the_holder_is_killed;
    /// KIL-05
    a_relay_that_was_stopped_beyond_its_lease_deletes_nothing: the_holder_is_stopped_beyond_its_lease;
}
