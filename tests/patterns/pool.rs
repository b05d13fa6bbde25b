//! A pool of items of the test, and of channels.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use actix_pika::{
    Channel, Connector, Error, ErrorKind,
    pool::{Pool, PoolItem, Pooled},
};
use futures_util::{FutureExt, future::join_all, poll};
use tokio::sync::Barrier;

use crate::support::{broker::Vhost, robust_connection::RobustConnection, within};

/// An item that counts how often it is used and closed.
#[derive(Clone, Default)]
struct Item {
    used: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl PoolItem for Item {
    fn is_closed(&self) -> bool {
        self.closed.load(SeqCst) > 0
    }

    async fn close(&self) -> actix_pika::Result<()> {
        self.closed.fetch_add(1, SeqCst);
        Ok(())
    }
}

type Made = Arc<Mutex<Vec<Item>>>;

/// A pool, and what its factory has made.
fn pool(max: usize) -> (Pool<Item>, Made) {
    let made = Made::default();
    let list = made.clone();
    let pool = Pool::new(max, move || {
        let list = list.clone();
        async move {
            tokio::task::yield_now().await;
            let item = Item::default();
            list.lock().unwrap().push(item.clone());
            Ok(item)
        }
    });
    (pool, made)
}

/// Uses the pool `users` times at once.
async fn use_at_once(pool: &Pool<Item>, users: usize) {
    let each = (0..users).map(async |_| {
        let item = pool.get().await.unwrap();
        tokio::task::yield_now().await;
        item.used.fetch_add(1, SeqCst);
    });
    within("all users", 10, join_all(each)).await;
}

/// POOL-01: the factory runs exactly `max` times for 200 users at once.
#[actix::test]
async fn the_factory_runs_as_often_as_items_may_exist() {
    for max in [50, 10, 5, 1] {
        let (pool, made) = pool(max);
        use_at_once(&pool, 200).await;
        assert_eq!((made.lock().unwrap().len(), pool.idle(), pool.used()), (max, max, 0));
    }
}

/// POOL-02: a pool makes nothing before the first use, and closes each item once, those in use too.
#[actix::test]
async fn a_close_closes_each_item_once() {
    for max in [10, 25, 50] {
        let (pool, made) = pool(max);
        assert_eq!(made.lock().unwrap().len(), 0);
        use_at_once(&pool, 200).await;
        let held = pool.get().await.unwrap();
        let items = made.lock().unwrap().clone();
        assert_eq!(items.len(), max);

        pool.close().await.unwrap();
        pool.close().await.unwrap();
        drop(held);
        assert!(pool.is_closed());
        assert!(items.iter().all(|item| item.closed.load(SeqCst) == 1));
        assert_eq!(pool.get().await.err().unwrap().kind(), ErrorKind::Refused);
        assert_eq!((items.len(), pool.idle(), pool.used()), (max, 0, 0));
    }
}

/// POOL-02: a close wakes those who wait, and an item that is being made is closed.
#[actix::test]
async fn a_close_wakes_those_who_wait() {
    let (pool, made) = pool(1);
    let mut making = Box::pin(pool.get());
    let mut waiting = Box::pin(pool.get());
    assert!(poll!(&mut making).is_pending() && poll!(&mut waiting).is_pending());
    pool.close().await.unwrap();
    for user in [waiting, making] {
        let refused = within("an end", 5, user).await.err().unwrap();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Refused, None));
    }
    let made = made.lock().unwrap();
    assert_eq!((made.len(), made[0].closed.load(SeqCst)), (1, 1));
}

/// POOL-03: without a limit, 200 users hold an item at the same time.
#[actix::test]
async fn without_a_limit_nobody_waits() {
    let (pool, made) = pool(usize::MAX);
    let barrier = Barrier::new(200);
    let each = (0..200).map(async |_| {
        let _item = pool.get().await.unwrap();
        barrier.wait().await;
    });
    assert_eq!(within("all users", 10, join_all(each)).await.len(), 200);
    assert_eq!(made.lock().unwrap().len(), 200);
}

/// POOL-04: of `5 * max` users at once, each item serves exactly five.
#[actix::test]
async fn items_are_used_equally_often() {
    for max in [1, 5, 10, 50] {
        let (pool, made) = pool(max);
        use_at_once(&pool, 5 * max).await;
        let made = made.lock().unwrap();
        assert_eq!(made.len(), max);
        assert!(made.iter().all(|item| item.used.load(SeqCst) == 5));
    }
}

/// POOL-04: users are served in the order in which they began to wait, also when one of them leaves.
#[actix::test]
async fn users_are_served_in_line() {
    let (pool, _) = pool(1);
    let first = pool.get().await.unwrap();
    let mut line: Vec<_> = (0..3).map(|_| Box::pin(pool.get())).collect();
    for user in &mut line {
        assert!(poll!(user).is_pending());
    }
    drop(line.remove(1));
    drop(first);
    assert!(poll!(&mut line[1]).is_pending());
    let next = match poll!(&mut line[0]) {
        Poll::Ready(item) => item.unwrap(),
        Poll::Pending => panic!("the first in line has its turn"),
    };
    drop(next);
    assert!(poll!(&mut line[1]).is_ready());
}

#[actix::test]
async fn a_failed_or_dropped_factory_leaves_its_place_to_the_next() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let pool = Pool::new(1, move || {
        let tries = count.fetch_add(1, SeqCst);
        async move {
            match tries {
                0 => Err(Error::credentials("the vault is sealed")),
                1 => poll_fn(|_| Poll::Pending).await,
                _ => Ok(Item::default()),
            }
        }
    });
    assert_eq!(pool.get().await.err().unwrap().kind(), ErrorKind::Auth);
    {
        let mut dropped = Box::pin(pool.get());
        assert!(poll!(&mut dropped).is_pending());
        assert_eq!(pool.used(), 1);
    }
    let item = within("an item", 5, pool.get()).await.unwrap();
    assert_eq!((tries.load(SeqCst), pool.used()), (3, 1));
    drop(item);
    assert_eq!(pool.idle(), 1);
}

/// POOL-05: a factory that panics leaves its place to the next user, and a guard is dropped on any thread.
#[actix::test]
async fn a_factory_that_panics_leaves_its_place_to_the_next() {
    let tries = AtomicUsize::new(0);
    let pool = Pool::new(1, move || {
        let tries = tries.fetch_add(1, SeqCst);
        assert!(tries > 0, "the factory panics in this test");
        async move {
            assert!(tries > 1, "its future panics in this test");
            Ok(Item::default())
        }
    });
    for _ in 0..2 {
        assert!(AssertUnwindSafe(pool.get()).catch_unwind().await.is_err());
        assert_eq!((pool.idle(), pool.used()), (0, 0));
    }
    let item = within("an item", 5, pool.get()).await.unwrap();
    std::thread::spawn(move || drop(item)).join().unwrap();
    assert_eq!((pool.idle(), pool.used()), (1, 0));
}

#[actix::test]
async fn a_detached_item_makes_room_for_another() {
    let (pool, made) = pool(1);
    let kept = Pooled::detach(pool.get().await.unwrap());
    let _other = within("another item", 5, pool.get()).await.unwrap();
    pool.close().await.unwrap();
    assert_eq!((made.lock().unwrap().len(), kept.closed.load(SeqCst)), (2, 0));
}

#[actix::test]
async fn a_channel_that_the_broker_closed_is_replaced() {
    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap();
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let pool = Pool::channels(&connection, 2);

    let channel = pool.get().await.unwrap();
    let dead = channel.number();
    let refused = within("a refusal", 10, channel.get_queue("missing")).await.unwrap_err();
    assert_eq!(refused.code(), Some(404));
    drop(channel);
    assert_eq!((pool.idle(), pool.used()), (0, 0));

    let next = within("a channel", 10, pool.get()).await.unwrap();
    assert!(!next.is_closed());
    // One that is closed while it is idle, by another handle.
    let handle: Channel = next.clone();
    drop(next);
    handle.close().await.unwrap();
    assert_eq!((pool.idle(), handle.number()), (1, dead));
    let third = within("a channel", 10, pool.get()).await.unwrap();
    within("a call", 10, third.declare_queue("jobs")).await.unwrap();

    pool.close().await.unwrap();
    assert!(third.is_closed());
    connection.close().await.unwrap();
}

#[actix::test]
async fn channels_of_a_robust_connection_stay_in_the_pool() {
    let mut rig = RobustConnection::connect().await;
    let pool = Pool::channels(&rig.connection, 3);
    let held: Vec<_> = within("channels", 10, join_all((0..3).map(|_| pool.get()))).await;
    let numbers = |held: &[actix_pika::Result<Pooled<Channel>>]| {
        let mut numbers: Vec<_> = held.iter().map(|channel| channel.as_ref().unwrap().number()).collect();
        numbers.sort_unstable();
        numbers
    };
    let before = numbers(&held);
    drop(held);
    rig.cut_and_recover().await;
    let held: Vec<_> = within("channels", 10, join_all((0..3).map(|_| pool.get()))).await;
    assert_eq!(numbers(&held), before);
    within("a call", 10, held[0].as_ref().unwrap().declare_queue("jobs")).await.unwrap();
}
