//! What a shutdown stops and drains.

use std::time::Duration;

use actix::{Actor, Context};
use futures_util::future::BoxFuture;

use crate::{
    rpc::RpcServer,
    tasks::{DrainReport, TaskConsumer},
    worker::SupervisedWorker,
};

/// Something that takes work in the background, and that a [`Shutdown`](super::Shutdown) can stop and drain.
///
/// The consumers, workers and servers of this crate have it. Implement it for work of your own that has to end before
/// the connections are closed.
///
/// # Examples
/// ```
/// use std::{sync::Arc, time::Duration};
/// use actix_pika::{shutdown::Drain, tasks::DrainReport};
/// use futures_util::future::BoxFuture;
/// use tokio::sync::Semaphore;
///
/// /// Uploads that run side by side, each with a permit.
/// struct Uploads { permits: Arc<Semaphore>, most: u32 }
///
/// impl Drain for Uploads {
///     fn name(&self) -> String {
///         "uploads".into()
///     }
///
///     fn stop(&self) {} // those that come later are refused when the permits are gone
///
///     fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport> {
///         let (permits, most) = (self.permits.clone(), self.most);
///         Box::pin(async move {
///             let mut report = DrainReport::default();
///             let running = most as usize - permits.available_permits();
///             match tokio::time::timeout(limit, permits.acquire_many(most)).await {
///                 Ok(_) => report.finished = running,
///                 Err(_) => report.abandoned = most as usize - permits.available_permits(),
///             }
///             permits.close();
///             report
///         })
///     }
/// }
/// ```
pub trait Drain: Send + Sync + 'static {
    /// Returns the name that the report and the readiness route have for it.
    fn name(&self) -> String;

    /// Begins no more work from now on. It returns at once, and may be called more than once.
    fn stop(&self);

    /// Stops, waits up to `limit` for what has begun, and ends what has not ended by then.
    ///
    /// The future may be called for again, with a shorter limit, before it is done: the earliest limit counts then, and
    /// both have the same report.
    fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport>;

    /// Returns whether it takes work at present. A process is not ready while this is `false`. `true` unless
    /// implemented.
    fn is_running(&self) -> bool {
        true
    }
}

impl Drain for TaskConsumer {
    fn name(&self) -> String {
        self.tag().to_owned()
    }

    fn stop(&self) {
        self.request_stop();
    }

    fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport> {
        let consumer = self.clone();
        Box::pin(async move { consumer.drain(limit).await })
    }

    fn is_running(&self) -> bool {
        TaskConsumer::is_running(self)
    }
}

impl Drain for RpcServer {
    fn name(&self) -> String {
        self.queue().to_owned()
    }

    fn stop(&self) {
        self.consumer().request_stop();
    }

    fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport> {
        let server = self.clone();
        Box::pin(async move { server.drain(limit).await })
    }

    fn is_running(&self) -> bool {
        self.consumer().is_running()
    }
}

/// Its name is that of the actor's type, without the path.
impl<A: Actor<Context = Context<A>>> Drain for SupervisedWorker<A> {
    fn name(&self) -> String {
        short_name(std::any::type_name::<A>()).to_owned()
    }

    fn stop(&self) {
        self.request_stop();
    }

    fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport> {
        let worker = self.clone();
        Box::pin(async move { worker.drain(limit).await })
    }

    fn is_running(&self) -> bool {
        SupervisedWorker::is_running(self)
    }
}

/// Returns the name of a type without the path before it; its parameters stay.
fn short_name(path: &str) -> &str {
    let name = path.split('<').next().unwrap_or(path);
    name.rfind("::").map_or(path, |at| &path[at + 2..])
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn the_name_of_a_type_has_no_path() {
        for (path, name) in [
            ("shop::mail::Mailer", "Mailer"),
            ("Mailer", "Mailer"),
            ("shop::Retrying<shop::Mailer>", "Retrying<shop::Mailer>"),
        ] {
            assert_eq!(short_name(path), name);
        }
    }
}
