//! Publishes that are sent to the actor. They go to the outbox by the same way as those of a handle.

use std::sync::Arc;

use super::Channel;
use crate::{
    message::Publish,
    outbox::{Destination, Outbox, PublishFuture},
};

/// Where a [`Publish`] message goes.
pub(super) struct Route {
    outbox: Arc<Outbox>,
    exchange: String,
    routing_key: String,
}

impl Destination for Route {
    fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    fn exchange(&self) -> &str {
        &self.exchange
    }

    fn routing_key(&self) -> &str {
        &self.routing_key
    }
}

impl Channel {
    pub(super) fn publish(&self, publish: Publish) -> PublishFuture<Route> {
        let Publish { exchange, routing_key, mut content } = publish;
        if self.message_ids {
            content = content.generate_message_id();
        }
        PublishFuture::new(Route { outbox: self.machine.outbox.clone(), exchange, routing_key }, content)
    }
}
