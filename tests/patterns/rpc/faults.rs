//! What becomes of calls whose connections are cut while they run: the table of the documentation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_pika::{
    ConnectionEvent, Connector, Recovery,
    events::Events,
    rpc::{Replies, Rpc, RpcError},
};
use tokio::sync::watch;

use super::*;
use crate::support::{
    eventually,
    proxy::{Cut, Proxy},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cuts {
    Client,
    Server,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Direct,
    Idempotent,
    Queue,
}

/// What ten calls that run, and ten that are made during the outage, come to.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    /// Of those that ran: answered, and lost while they may have run.
    running: (usize, usize),
    /// Of those during the outage: answered.
    during: usize,
    /// How many requests ran once, and how many more often.
    runs: (usize, usize),
    /// Replies that came twice.
    late: u64,
}

/// A connection behind a proxy of its own.
struct Side {
    proxy: Proxy,
    connection: Connection,
    events: Events<ConnectionEvent>,
}

impl Side {
    async fn connect(vhost: &Vhost) -> Self {
        let proxy = Proxy::to(&vhost.broker().address());
        let recovery = Recovery::exponential(Duration::from_millis(20), Duration::from_millis(100));
        let connector = Connector::new(&proxy.url(&vhost.url())).unwrap().recovery(recovery);
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let events = connection.events();
        Self { proxy, connection, events }
    }

    async fn cut(&mut self) {
        self.proxy.refuse_new().await;
        self.proxy.cut_all(Cut::Rst);
        self.wait_for(|event| matches!(event, ConnectionEvent::Lost(_))).await;
    }

    async fn recover(&mut self) {
        self.proxy.accept_new().await;
        self.wait_for(|event| matches!(event, ConnectionEvent::Recovered { .. })).await;
    }

    async fn wait_for(&mut self, wanted: impl Fn(&ConnectionEvent) -> bool) {
        while !wanted(&within("an event", 30, self.events.next()).await.unwrap()) {}
    }
}

/// How often each request ran. Handlers wait until the gate is open.
#[derive(Clone)]
struct Work {
    runs: Arc<Mutex<BTreeMap<i64, usize>>>,
    open: watch::Receiver<bool>,
}

impl Work {
    fn count(&self) -> usize {
        self.runs.lock().unwrap().values().sum()
    }

    async fn run(mut self, n: i64) -> Answer<i64> {
        *self.runs.lock().unwrap().entry(n).or_default() += 1;
        self.open.wait_for(|open| *open).await.unwrap();
        Ok(2 * n)
    }
}

fn call(kind: Kind, client: &RpcClient, n: i64) -> JoinHandle<Result<i64, RpcError>> {
    match kind {
        Kind::Idempotent => start(client, Double { n }),
        Kind::Direct | Kind::Queue => start(client, add(n, n)),
    }
}

async fn run(kind: Kind, cuts: Cuts) -> Tally {
    let vhost = Vhost::fresh().await;
    let (mut server, mut caller) = (Side::connect(&vhost).await, Side::connect(&vhost).await);
    let (gate, open) = watch::channel(false);
    let work = Work { runs: Arc::default(), open };
    let channel = server.connection.channel().await.unwrap();
    let (adding, doubling) = (work.clone(), work.clone());
    Rpc::serve_fn(&channel, move |add: Add| adding.clone().run(add.a)).at_once(64).await.unwrap();
    Rpc::serve_fn(&channel, move |double: Double| doubling.clone().run(double.n)).at_once(64).await.unwrap();
    let replies = if kind == Kind::Queue { Replies::Queue } else { Replies::Direct };
    let client = Rpc::client(&caller.connection).replies(replies).await.unwrap();

    let running: Vec<_> = (0..10).map(|n| call(kind, &client, n)).collect();
    // A request that is not confirmed is lost in any case.
    eventually("requests that run and are confirmed", 10, async || {
        let confirmed = caller.connection.counters().channels.confirmed;
        (work.count() == 10 && confirmed == 10).then_some(())
    })
    .await;
    let (cuts_client, cuts_server) = (cuts != Cuts::Server, cuts != Cuts::Client);
    if cuts_client {
        caller.cut().await;
    }
    if cuts_server {
        server.cut().await;
    }
    let during: Vec<_> = (10..20).map(|n| call(kind, &client, n)).collect();
    if cuts_server {
        server.recover().await;
    }
    if cuts_client {
        caller.recover().await;
    }
    eventually("the calls of the outage", 10, async || (work.count() >= 20).then_some(())).await;
    gate.send_replace(true);

    let mut tally = Tally { running: (0, 0), during: 0, runs: (0, 0), late: 0 };
    for (n, call) in (0..).zip(running) {
        match outcome(call).await {
            Ok(sum) if sum == 2 * n => tally.running.0 += 1,
            Err(RpcError::Lost { may_have_run: true, .. }) => tally.running.1 += 1,
            other => panic!("{kind:?} {cuts:?} {n}: {other:?}"),
        }
    }
    for (n, call) in (10..).zip(during) {
        assert_eq!(outcome(call).await.unwrap(), 2 * n, "{kind:?} {cuts:?}");
        tally.during += 1;
    }
    // All copies are settled, and their replies have arrived.
    eventually("all is settled", 20, async || (channel.load().unsettled == 0).then_some(())).await;
    let late = if cuts_server && (kind == Kind::Queue || cuts == Cuts::Server) { 10 } else { 0 };
    eventually("late replies", 20, async || (client.counters().late >= late).then_some(())).await;
    tally.late = client.counters().late;
    let runs = work.runs.lock().unwrap();
    tally.runs = (runs.len(), runs.values().filter(|runs| **runs > 1).count());
    assert_eq!((client.counters().pending, client.counters().unexpected), (0, 0));
    tally
}

/// RPC-18: with direct replies, running calls are lost with the connection of the client, and only with that.
#[actix::test]
async fn direct_replies() {
    let lost = Tally { running: (0, 10), during: 10, runs: (20, 0), late: 0 };
    assert_eq!(run(Kind::Direct, Cuts::Client).await, lost);
    assert_eq!(run(Kind::Direct, Cuts::Both).await, lost);
    let answered = Tally { running: (10, 0), during: 10, runs: (20, 0), late: 10 };
    assert_eq!(run(Kind::Direct, Cuts::Server).await, answered);
}

/// RPC-18: idempotent calls are all answered. The server recognises their repeats, and does not run them again.
#[actix::test]
async fn idempotent_calls() {
    let answered = |late| Tally { running: (10, 0), during: 10, runs: (20, 0), late };
    assert_eq!(run(Kind::Idempotent, Cuts::Client).await, answered(0));
    assert_eq!(run(Kind::Idempotent, Cuts::Both).await, answered(0));
    assert_eq!(run(Kind::Idempotent, Cuts::Server).await, answered(10));
}

/// RPC-18: with a reply queue, all calls are answered.
#[actix::test]
async fn reply_queues() {
    let answered = |late| Tally { running: (10, 0), during: 10, runs: (20, 0), late };
    assert_eq!(run(Kind::Queue, Cuts::Client).await, answered(0));
    assert_eq!(run(Kind::Queue, Cuts::Both).await, answered(10));
    assert_eq!(run(Kind::Queue, Cuts::Server).await, answered(10));
}
