//! The consumers that feed a worker, whatever the type of their tasks.

use std::sync::Arc;

use actix::{Actor, Context, Handler};
use futures_util::{FutureExt, future::LocalBoxFuture};

use super::link::Link;
use crate::{
    Result,
    codec::Codec,
    tasks::{Task, TaskConsumer, Tasks},
};

/// The tasks of one queue for workers of type `A`.
pub(super) trait Feed<A: Actor>: Send {
    /// Returns the name of the queue.
    fn queue(&self) -> &str;

    /// Returns the same for a thread. Its number, if it has one, is appended to the consumer tag.
    fn copy(&self, thread: Option<usize>) -> Box<dyn Feed<A>>;

    /// Starts the consumer on the arbiter of the caller.
    fn start(self: Box<Self>, link: &Link<A>) -> LocalBoxFuture<'static, Result<TaskConsumer>>;
}

pub(super) struct Fed<T, C>(Tasks<T, Arc<C>>);

impl<T: 'static, C: Codec<T>> Fed<T, C> {
    pub(super) fn new(tasks: Tasks<T, C>) -> Self {
        Self(tasks.share())
    }
}

impl<A, T, C> Feed<A> for Fed<T, C>
where
    A: Actor<Context = Context<A>> + Handler<Task<T>>,
    T: Send + 'static,
    C: Codec<T>,
{
    fn queue(&self) -> &str {
        self.0.queue_name()
    }

    fn copy(&self, thread: Option<usize>) -> Box<dyn Feed<A>> {
        Box::new(Self(self.0.copy(thread)))
    }

    fn start(self: Box<Self>, link: &Link<A>) -> LocalBoxFuture<'static, Result<TaskConsumer>> {
        self.0.spawn(link.front()).boxed_local()
    }
}
