//! The actor in place of a connection: to the supervisor and the channels it is one.

use std::{net::SocketAddr, sync::Arc};

use actix::{Actor, ActorContext, Context, Handler, Recipient};

use super::{FRAME_MAX, shared::Shared};
use crate::{
    error::Error,
    internal::{ConnectionCommand, SocketInfo, SupervisorMessage},
    options::Address,
    outbox::Flush,
    wire::{Negotiated, Table},
};

pub(crate) struct StandIn {
    shared: Arc<Shared>,
    epoch: u64,
    supervisor: Recipient<SupervisorMessage>,
}

impl StandIn {
    pub(super) fn new(shared: Arc<Shared>, epoch: u64, supervisor: Recipient<SupervisorMessage>) -> Self {
        Self { shared, epoch, supervisor }
    }
}

impl Actor for StandIn {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.shared.begin(self.epoch, self.supervisor.clone());
        let capabilities = [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "per_consumer_qos",
        ];
        let capabilities: Table = capabilities.map(|name| (name, true)).into();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        self.supervisor.do_send(SupervisorMessage::ConnectionOpened {
            epoch: self.epoch,
            negotiated: Negotiated {
                channel_max: 2047,
                frame_max: FRAME_MAX,
                heartbeat: 0,
                server_properties: [("capabilities", capabilities)].into(),
            },
            socket: SocketInfo {
                address: Address::new("recorder", 0),
                local: nowhere,
                peer: nowhere,
                lifetime: None,
            },
        });
    }
}

impl Handler<Flush> for StandIn {
    type Result = ();

    fn handle(&mut self, flush: Flush, _: &mut Self::Context) {
        if flush.epoch == self.epoch {
            self.shared.read();
        }
    }
}

impl Handler<ConnectionCommand> for StandIn {
    type Result = ();

    fn handle(&mut self, command: ConnectionCommand, ctx: &mut Self::Context) {
        match command {
            ConnectionCommand::AttachChannel { channel, recipient, outbox } => {
                self.shared.attach(channel, recipient, outbox);
            }
            ConnectionCommand::DetachChannel { channel } => self.shared.detach(channel),
            ConnectionCommand::Close { .. } => {
                self.shared.end(Error::connection_closed_here("closed by the application"));
                ctx.stop();
            }
            ConnectionCommand::Fail { fault } => {
                self.shared.end(Error::protocol(format!("{fault:?}")));
                ctx.stop();
            }
            ConnectionCommand::UpdateSecret { .. } => {
                self.supervisor.do_send(SupervisorMessage::SecretUpdated { epoch: self.epoch });
            }
        }
    }
}
