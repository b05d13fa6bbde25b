//! The same tasks for several threads.

use std::sync::Arc;

use actix_pika_actors::facade;

use super::builder::{Order, Tasks};

impl<T, C> Tasks<T, C> {
    /// Returns the same with a codec that can be shared.
    pub(crate) fn share(self) -> Tasks<T, Arc<C>> {
        let Self {
            queue,
            codec,
            consume,
            at_once,
            prefetch,
            order,
            timeout,
            undecodable,
            retry,
            overtaking,
            hooks,
        } = self;
        let codec = Arc::new(codec);
        Tasks {
            queue,
            codec,
            consume,
            at_once,
            prefetch,
            order,
            timeout,
            undecodable,
            retry,
            overtaking,
            hooks,
        }
    }

    pub(crate) fn queue_name(&self) -> &str {
        self.queue.name()
    }
}

impl<T, C> Tasks<T, Arc<C>> {
    /// Returns the same for one of several threads, whose number is appended to a consumer tag that was set.
    pub(crate) fn copy(&self, thread: Option<usize>) -> Self {
        let consume = match thread {
            Some(thread) => facade::append_to_tag(self.consume.clone(), &format!("-{thread}")),
            None => self.consume.clone(),
        };
        let order = match &self.order {
            Order::Any => Order::Any,
            Order::Queue => Order::Queue,
            Order::Lanes(lane_of) => Order::Lanes(lane_of.clone()),
        };
        Self {
            queue: self.queue.clone(),
            codec: self.codec.clone(),
            consume,
            at_once: self.at_once,
            prefetch: self.prefetch,
            order,
            timeout: self.timeout,
            undecodable: self.undecodable,
            retry: self.retry.clone(),
            overtaking: self.overtaking,
            hooks: self.hooks.clone(),
        }
    }
}
