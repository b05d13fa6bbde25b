//! A node that is stopped, killed or paused, and comes back.

use std::{
    convert::Infallible,
    io,
    sync::{Mutex, PoisonError, mpsc},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{builder::StartError, handle::Broker, state::State};
use crate::core::Keep;

/// What the thread of a broker is to do. It answers when that is done.
#[derive(Debug)]
pub(super) enum Order {
    /// To close the ports, which nobody else can take meanwhile.
    Close(mpsc::Sender<io::Result<()>>),
    Listen(mpsc::Sender<io::Result<()>>),
    /// To do nothing until the other end is dropped.
    Pause(mpsc::Sender<io::Result<()>>, mpsc::Receiver<Infallible>),
}

/// The way from the handle of a broker to its thread.
#[derive(Debug, Default)]
pub(super) struct Node {
    orders: Option<UnboundedSender<Order>>,
    /// Dropped to resume.
    paused: Mutex<Option<mpsc::Sender<Infallible>>>,
}

impl Node {
    pub(super) fn new() -> (Self, UnboundedReceiver<Order>) {
        let (orders, received) = unbounded_channel();
        (Self { orders: Some(orders), paused: Mutex::default() }, received)
    }

    /// Gives an order to the thread, if there is one, and waits until it has followed it.
    fn order(&self, order: impl FnOnce(mpsc::Sender<io::Result<()>>) -> Order) -> io::Result<()> {
        let Some(orders) = &self.orders else { return Ok(()) };
        let (done, answer) = mpsc::channel();
        let ended = |_| io::Error::other("the thread of the test broker has ended");
        orders.send(order(done)).map_err(|_| ended(mpsc::RecvError))?;
        answer.recv().map_err(ended)?
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn resume(&self) {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Broker {
    /// Stops the node: connects are refused, connections are closed with 320 and handshakes are reset, until
    /// [`start_node`](Self::start_node). Durable entities with their persistent messages stay.
    ///
    /// # Panics
    /// If a part of the broker has panicked.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// broker.stop_node();
    /// assert!(std::net::TcpStream::connect(("127.0.0.1", broker.port())).is_err());
    /// broker.start_node().unwrap();
    /// assert!(std::net::TcpStream::connect(("127.0.0.1", broker.port())).is_ok());
    /// ```
    #[track_caller]
    pub fn stop_node(&self) {
        self.close_port();
        self.shared.change(|state| state.restart(Keep::Durable));
    }

    /// Kills the node: as [`stop_node`](Self::stop_node), but connections are reset and told nothing.
    ///
    /// # Panics
    /// If a part of the broker has panicked.
    ///
    /// # Examples
    /// ```no_run
    /// # fn kill(broker: actix_pika_broker::Broker) {
    /// broker.kill_node();
    /// // The client under test tries again, and again.
    /// broker.start_node().unwrap();
    /// # }
    /// ```
    #[track_caller]
    pub fn kill_node(&self) {
        let reset = |state: &mut State| state.each_peer(|peer, core, now| peer.reset(core, now));
        if self.node.is_paused() {
            // What it has not read is lost.
            self.shared.change(reset);
        }
        self.close_port();
        self.shared.change(|state| {
            reset(state);
            state.restart(Keep::Durable);
        });
    }

    /// Starts the node again, on the same port.
    ///
    /// # Errors
    /// If the port cannot be listened on, as while another process has it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// // One that runs goes on.
    /// Broker::start().unwrap().start_node().unwrap();
    /// ```
    pub fn start_node(&self) -> Result<(), StartError> {
        self.shared.change(|state| state.is_down = false);
        self.node.resume();
        self.order(Order::Listen)
            .map_err(|error| StartError::new(format!("cannot listen on port {} again", self.port()), error))
    }

    /// Pauses the node, as SIGSTOP does a process: its sockets stay open, and it reads, writes and accepts nothing until
    /// [`resume_node`](Self::resume_node), or until it is stopped, killed or started. One without a thread of its own
    /// ([`Builder::start_here`](crate::Builder::start_here)) cannot be paused.
    ///
    /// # Panics
    /// If a part of the broker has panicked.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// broker.pause_node();
    /// broker.resume_node();
    /// ```
    #[track_caller]
    pub fn pause_node(&self) {
        let mut paused = self.node.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none() {
            let (until, resumed) = mpsc::channel();
            self.expect("pause", self.order(|begun| Order::Pause(begun, resumed)));
            *paused = Some(until);
        }
    }

    /// Resumes a node that is paused.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().resume_node();
    /// ```
    pub fn resume_node(&self) {
        self.node.resume();
    }

    #[track_caller]
    fn close_port(&self) {
        self.shared.change(|state: &mut State| state.is_down = true);
        self.node.resume();
        self.expect("close the ports", self.order(Order::Close));
    }

    /// Gives an order to the thread, if there is one. The error names the panic that has ended it.
    fn order(&self, order: impl FnOnce(mpsc::Sender<io::Result<()>>) -> Order) -> io::Result<()> {
        let result = self.node.order(order);
        match self.shared.broken() {
            Some(broken) => Err(io::Error::other(broken)),
            None => result,
        }
    }

    #[track_caller]
    fn expect(&self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            panic!("cannot {what}: {error}");
        }
    }
}
