//! The options of a [`JsonRpc`].

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use super::{JsonRpc, wire::Format};
use crate::{Channel, Result};

/// Builds a [`JsonRpc`] ([`JsonRpc::new`]). Awaiting it makes it.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use std::time::Duration;
/// use actix_pika::aio_pika::JsonRpc;
///
/// let rpc = JsonRpc::new(&channel).exchange("billing").deadline(Duration::from_secs(5)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct JsonRpcBuilder {
    pub(super) channel: Channel,
    pub(super) exchange: String,
    pub(super) durable: bool,
    pub(super) format: Format,
    pub(super) prefix: Option<String>,
    pub(super) call: CallOptions,
}

/// How calls are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub(super) deadline: Duration,
    pub(super) priority: u8,
    pub(super) persistent: bool,
    pub(super) resend: bool,
}

impl JsonRpcBuilder {
    pub(super) fn new(channel: &Channel) -> Self {
        let call = CallOptions {
            deadline: Duration::from_secs(30),
            // As aio-pika's.
            priority: 5,
            persistent: false,
            resend: false,
        };
        Self {
            channel: channel.clone(),
            exchange: String::new(),
            durable: false,
            format: Format::Json,
            prefix: None,
            call,
        }
    }

    /// Sets the exchange of the service, as `RPC.create(channel, exchange=..)`: methods of one name on two exchanges are
    /// two methods. The default exchange unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).exchange("billing");
    /// # }
    /// ```
    pub fn exchange(mut self, name: impl Into<String>) -> Self {
        self.exchange = name.into();
        self
    }

    /// Sets whether the [exchange](Self::exchange) of the service is durable; it is not unless set. Every client and server
    /// of it must declare it alike: with `RPC.create(.., durable=True)`, it is.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).exchange("billing").durable(true);
    /// # }
    /// ```
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether calls and replies are compressed; they are not unless set. Compressed ones are always read.
    ///
    /// aio-pika needs a subclass of `JsonRPC` for it, whose `serialize` and `deserialize` use Python's `gzip`.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).gzip(true);
    /// # }
    /// ```
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.format = if gzip { Format::Gzip } else { Format::Json };
        self
    }

    /// Sets how correlation ids begin, instead of with random digits: `myPrefix` leads to `myPrefix-1`, `myPrefix-2`.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).correlation_prefix("myPrefix");
    /// # }
    /// ```
    pub fn correlation_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Sets how long a call waits for its reply: 30 seconds unless set, at least a millisecond, at most 49 days. Calls that
    /// no server has taken expire shortly before, so that none begins them later.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).deadline(Duration::from_secs(5));
    /// # }
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call = self.call.deadline(deadline);
        self
    }

    /// Sets the priority of calls; 5 unless set, as with aio-pika.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).priority(9);
    /// # }
    /// ```
    pub fn priority(mut self, priority: u8) -> Self {
        self.call.priority = priority;
        self
    }

    /// Sets whether calls and their replies are persistent; they are not unless set, as with aio-pika.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).persistent(true);
    /// # }
    /// ```
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.call.persistent = persistent;
        self
    }

    /// Sets whether a call is sent again if the connection is lost before the broker has confirmed it; it is not unless
    /// set, and waits for a reply in case it has arrived, or ends with [`RpcError::Lost`](crate::rpc::RpcError::Lost) at its
    /// deadline. For methods that may run twice.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::aio_pika::JsonRpc;
    /// # fn options(channel: actix_pika::Channel) {
    /// let rpc = JsonRpc::new(&channel).resend(true);
    /// # }
    /// ```
    pub fn resend(mut self, resend: bool) -> Self {
        self.call.resend = resend;
        self
    }
}

impl CallOptions {
    pub(super) fn deadline(self, deadline: Duration) -> Self {
        // More than this is no expiration for the broker.
        let most = Duration::from_millis(u32::MAX.into());
        Self { deadline: deadline.clamp(Duration::from_millis(1), most), ..self }
    }

    /// Returns when the broker drops a call that no server has taken: before the deadline, so that its dead letter comes
    /// in time to tell that it has not run.
    pub(super) fn expiration(self) -> Duration {
        self.deadline - (self.deadline / 5).min(Duration::from_millis(200))
    }
}

impl IntoFuture for JsonRpcBuilder {
    type Output = Result<JsonRpc>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<JsonRpc>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(JsonRpc::open(self))
    }
}
