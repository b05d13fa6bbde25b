//! The broker, the database and the processes of a test.

use super::{
    ALL, LEASE,
    program::{Process, Role, Start},
    shop::{Point, Shop},
};
use crate::{
    databases::{Postgres, Sqlite},
    support::{broker::Vhost, eventually, oracle::Oracle, proxy::Proxy},
};
use std::io::Write;

/// Deletes the database when it is dropped.
enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

pub struct Rig {
    pub shop: Shop,
    pub oracle: Oracle,
    /// Orders that are placed, or will be.
    pub orders: i64,
    pub kills: u32,
    vhost: Vhost,
    database: Database,
}

impl Rig {
    pub async fn sqlite() -> Self {
        Self::new(Database::Sqlite(Sqlite::fresh())).await
    }

    pub async fn postgres() -> Option<Self> {
        Some(Self::new(Database::Postgres(Postgres::fresh().await?)).await)
    }

    async fn new(database: Database) -> Self {
        let vhost = Vhost::fresh_plain().await;
        let oracle = Oracle::connect(&vhost.url()).await;
        oracle.declare_queue("orders").await;
        let shop = Shop::open(&database.url()).await;
        shop.create_tables().await;
        Self { shop, oracle, orders: 0, kills: 0, vhost, database }
    }

    pub fn start(&self, roles: &[Role]) -> Process {
        self.process(roles, &self.vhost.url(), None)
    }

    pub fn start_that_kills_itself(&self, roles: &[Role], at: (Point, u32)) -> Process {
        self.process(roles, &self.vhost.url(), Some(at))
    }

    /// Starts a process whose proxy, of its own, is returned when it is connected.
    pub async fn start_behind_proxy(&self, roles: &[Role]) -> (Process, Proxy) {
        let proxy = Proxy::to(&self.vhost.broker().address());
        proxy.record();
        let process = self.process(roles, &proxy.url(&self.vhost.url()), None);
        proxy.wait_for_open(1).await;
        (process, proxy)
    }

    /// Starts a relay behind a proxy, and waits until it has the lease and a channel.
    pub async fn start_relay(&mut self) -> (Process, Proxy) {
        let fence = self.shop.lease().await.map_or(0, |(fence, _)| fence);
        let started = self.start_behind_proxy(&[Role::Relay]).await;
        self.until_lease_is_held(fence + 1).await;
        started
    }

    fn process(&self, roles: &[Role], broker: &str, kill_at: Option<(Point, u32)>) -> Process {
        Start { database: &self.database.url(), broker, roles, orders: self.orders, kill_at }.start()
    }

    /// Places orders in this process, in one transaction, so that a relay reads all of them at once.
    pub async fn place(&mut self, orders: i64) {
        self.shop.place(self.orders..self.orders + orders, &|_| ()).await;
        self.orders += orders;
    }

    pub async fn until_outbox_is_empty(&self) {
        let empty = async || (self.shop.count("pika_outbox").await == 0).then_some(());
        eventually("an empty outbox", 60, empty).await;
    }

    /// Waits until the lease is held with this fence or a later one, and returns the fence.
    pub async fn until_lease_is_held(&self, fence: i64) -> i64 {
        let held = async || self.shop.lease().await.map(|(held, _)| held).filter(|held| *held >= fence);
        eventually("another holder of the lease", 60, held).await
    }

    pub async fn until_lease_renewed(&self) {
        let (_, before) = self.shop.lease().await.unwrap();
        let renewed = async || self.shop.lease().await.filter(|(_, until)| *until > before).map(drop);
        eventually("a renewed lease", 20 + LEASE.as_secs(), renewed).await;
    }

    /// Waits until each order is billed and the outbox is empty.
    pub async fn until_done(&self) {
        let done = async || {
            let bills = self.shop.count("bills").await;
            (bills >= self.orders && self.shop.count("pika_outbox").await == 0).then_some(())
        };
        eventually("all orders are billed", 120, done).await;
    }

    /// Lets a whole application do what is left, and checks that each order was billed once.
    pub async fn finish(&mut self) {
        let process = self.start(ALL);
        self.until_done().await;
        let idle = async || (self.vhost.queue_depth("orders").await? == 0).then_some(());
        eventually("nothing to do", 60, idle).await;
        drop(process);
        assert_eq!(self.shop.count("orders").await, self.orders);
        assert_eq!(self.shop.bills().await, (0..self.orders).map(|n| (n, 1)).collect());
        assert_eq!(self.shop.count("pika_outbox").await, 0);
    }

    pub async fn until_no_consumer(&self) {
        let none = async || (self.oracle.queue_counts("orders").await?.1 == 0).then_some(());
        eventually("no consumer", 30, none).await;
    }

    pub async fn report(&self, what: &str) {
        let (kills, orders) = (self.kills, self.orders);
        let (bills, copies) = (self.shop.count("bills").await, self.shop.count("copies").await);
        let database = match self.database {
            Database::Sqlite(_) => "SQLite",
            Database::Postgres(_) => "PostgreSQL",
        };
        let line = format!(
            "{what}, {database}: {kills} kills, {orders} orders, {bills} effects, {copies} copies known"
        );
        // Not by a macro, whose output only failed tests show.
        writeln!(std::io::stderr(), "{line}").expect("stderr is open");
    }
}

impl Database {
    fn url(&self) -> String {
        match self {
            Self::Sqlite(database) => database.url(),
            Self::Postgres(database) => database.url(),
        }
    }
}
