//! The user actor that a consumer feeds: a recipient, or workers that a factory builds one after the other.

use std::fmt;

use actix::Recipient;

use crate::message::{Delivery, WorkerFactory};

pub(super) struct Target {
    recipient: Option<Recipient<Delivery>>,
    factory: Option<WorkerFactory>,
}

impl Target {
    pub(super) fn actor(recipient: Recipient<Delivery>) -> Self {
        Self { recipient: Some(recipient), factory: None }
    }

    /// Returns a target without a worker: [`build`](Self::build) builds it, on the thread of the consumer.
    pub(super) fn supervised(factory: WorkerFactory) -> Self {
        Self { recipient: None, factory: Some(factory) }
    }

    pub(super) fn is_supervised(&self) -> bool {
        self.factory.is_some()
    }

    /// Returns the recipient if its actor runs.
    #[inline]
    pub(super) fn running(&self) -> Option<&Recipient<Delivery>> {
        self.recipient.as_ref().filter(|recipient| recipient.connected())
    }

    /// Builds a worker, if there is a factory.
    pub(super) fn build(&mut self) {
        if let Some(factory) = &mut self.factory {
            self.recipient = Some(factory());
        }
    }

    /// Lets go of a worker that has stopped.
    pub(super) fn clear(&mut self) {
        self.recipient = None;
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("running", &self.running().is_some())
            .field("supervised", &self.is_supervised())
            .finish_non_exhaustive()
    }
}
