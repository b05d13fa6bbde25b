//! The tasks that publish and consume, and the state that they share.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use actix_pika::{DeliveryStream, ErrorKind, Exchange};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;

use crate::checker::Checker;

/// What all workers of a part write to.
#[derive(Debug)]
pub struct Ledger {
    pub checker: RefCell<Checker>,
    /// The first errors.
    pub errors: RefCell<Vec<String>>,
    /// How many messages each publisher may send for now.
    pub allowed: watch::Sender<u64>,
    /// The number of deliveries of each queue.
    pub consumed: Vec<watch::Sender<u64>>,
    pub closing: Cell<bool>,
}

impl Ledger {
    pub fn new(publishers: usize, queues: usize) -> Self {
        Self {
            checker: RefCell::new(Checker::new(publishers)),
            errors: RefCell::default(),
            allowed: watch::Sender::new(0),
            consumed: (0..queues).map(|_| watch::Sender::new(0)).collect(),
            closing: Cell::default(),
        }
    }

    pub fn error(&self, error: String) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < 100 {
            errors.push(error);
        }
    }
}

pub struct Publisher {
    pub number: usize,
    /// How many messages it sends.
    pub messages: u64,
    pub random: fastrand::Rng,
    pub ledger: Rc<Ledger>,
}

impl Publisher {
    pub async fn run(mut self, exchange: Exchange, routing_key: String) {
        let mut allowed = self.ledger.allowed.subscribe();
        let mut confirms = VecDeque::new();
        for n in 0..self.messages {
            if *allowed.borrow() <= n {
                allowed.wait_for(|allowed| *allowed > n).await.expect("the ledger");
            }
            match exchange.publish_deferred(self.body(n), &routing_key).await {
                Ok(confirm) => confirms.push_back((n, confirm)),
                Err(error) => self.ledger.error(format!("publish of {n} by {}: {error}", self.number)),
            }
            while let Some((n, result)) =
                confirms.front_mut().and_then(|(n, confirm)| Some((*n, confirm.now_or_never()?)))
            {
                self.record(n, result.map(drop));
                confirms.pop_front();
            }
        }
        for (n, confirm) in confirms {
            self.record(n, confirm.await.map(drop));
        }
    }

    fn record(&self, n: u64, result: actix_pika::Result<()>) {
        match result {
            Ok(()) => self.ledger.checker.borrow_mut().confirmed(self.number, n),
            Err(error) => self.ledger.error(format!("confirm of {n} of {}: {error}", self.number)),
        }
    }

    /// Builds a body from the number of the publisher, the number of the message, and padding. The padding is mostly
    /// short. Some is too long to be copied, to fit one read, or to be written at once.
    fn body(&mut self, n: u64) -> Vec<u8> {
        let padding = match self.random.u32(0..1000) {
            0 => 250_000,
            1 => 40_000,
            2..10 => 5_000,
            _ => self.random.usize(0..200),
        };
        let mut body = Vec::with_capacity(16 + padding);
        body.extend_from_slice(&(self.number as u64).to_be_bytes());
        body.extend_from_slice(&n.to_be_bytes());
        body.resize(16 + padding, n as u8);
        body
    }
}

/// Parses a body into the numbers of its publisher and message. `None` if it was changed.
fn parse_body(body: &[u8]) -> Option<(usize, u64)> {
    let (head, padding) = body.split_at_checked(16)?;
    let publisher = u64::from_be_bytes(head[..8].try_into().ok()?);
    let n = u64::from_be_bytes(head[8..].try_into().ok()?);
    padding.iter().all(|byte| *byte == n as u8).then_some((publisher as usize, n))
}

/// Records and acknowledges deliveries until the stream ends.
pub async fn consume(mut deliveries: DeliveryStream, queue: usize, ledger: Rc<Ledger>) {
    while let Some(delivery) = deliveries.next().await {
        match parse_body(delivery.body()) {
            Some((publisher, n)) => ledger.checker.borrow_mut().delivered(publisher, n),
            None => ledger.error("a body was changed".into()),
        }
        match delivery.ack() {
            Ok(()) => {}
            // Its connection was lost, and the broker delivers the message again.
            Err(error) if error.kind() == ErrorKind::StaleDelivery => {}
            Err(error) => ledger.error(format!("ack: {error}")),
        }
        ledger.consumed[queue].send_modify(|consumed| *consumed += 1);
    }
    if !ledger.closing.get() {
        ledger.error(format!("a consumer ended: {:?}", deliveries.end()));
    }
}
