//! Conversions between the method structs of `amq-protocol` and its `AMQPClass`, and the name of each method.

use std::fmt;

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx};

/// A method of AMQP 0-9-1, such as `queue::Declare`, which converts to an [`AMQPClass`] and back.
///
/// Implemented for every method struct of [`protocol`](super::protocol).
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{Method, protocol::queue};
/// assert_eq!(queue::Declare::NAME, "queue.declare");
/// ```
pub trait Method: fmt::Debug + Sized {
    /// The name in the specification, such as `queue.declare`.
    const NAME: &'static str;

    /// Wraps the method in its class.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Method, protocol::channel};
    /// assert_eq!(channel::Open::default().into_class().get_amqp_class_id(), 20);
    /// ```
    fn into_class(self) -> AMQPClass;

    /// Unwraps the method from its class.
    ///
    /// # Errors
    /// The class unchanged, if it holds another method.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Method, protocol::{channel, queue}};
    /// let class = channel::Open::default().into_class();
    /// assert!(queue::Declare::from_class(class).is_err());
    /// ```
    fn from_class(class: AMQPClass) -> Result<Self, Box<AMQPClass>>;
}

macro_rules! methods {
    ($($class:ident :: $variant:ident { $($method:ident = $name:literal),* $(,)? })*) => {
        $($(
            impl Method for $class::$method {
                const NAME: &'static str = concat!(stringify!($class), ".", $name);

                fn into_class(self) -> AMQPClass {
                    AMQPClass::$variant($class::AMQPMethod::$method(self))
                }

                fn from_class(class: AMQPClass) -> Result<Self, Box<AMQPClass>> {
                    match class {
                        AMQPClass::$variant($class::AMQPMethod::$method(method)) => Ok(method),
                        other => Err(Box::new(other)),
                    }
                }
            }
        )*)*

        /// Returns the name of a method in the specification.
        pub(super) fn name(class: &AMQPClass) -> &'static str {
            match class {
                $($(AMQPClass::$variant($class::AMQPMethod::$method(_)) => $class::$method::NAME,)*)*
            }
        }
    };
}

methods! {
    connection::Connection {
        Start = "start", StartOk = "start-ok", Secure = "secure", SecureOk = "secure-ok", Tune = "tune",
        TuneOk = "tune-ok", Open = "open", OpenOk = "open-ok", Close = "close", CloseOk = "close-ok",
        Blocked = "blocked", Unblocked = "unblocked", UpdateSecret = "update-secret",
        UpdateSecretOk = "update-secret-ok",
    }
    channel::Channel {
        Open = "open", OpenOk = "open-ok", Flow = "flow", FlowOk = "flow-ok", Close = "close", CloseOk = "close-ok",
    }
    access::Access { Request = "request", RequestOk = "request-ok" }
    exchange::Exchange {
        Declare = "declare", DeclareOk = "declare-ok", Delete = "delete", DeleteOk = "delete-ok", Bind = "bind",
        BindOk = "bind-ok", Unbind = "unbind", UnbindOk = "unbind-ok",
    }
    queue::Queue {
        Declare = "declare", DeclareOk = "declare-ok", Bind = "bind", BindOk = "bind-ok", Purge = "purge",
        PurgeOk = "purge-ok", Delete = "delete", DeleteOk = "delete-ok", Unbind = "unbind", UnbindOk = "unbind-ok",
    }
    basic::Basic {
        Qos = "qos", QosOk = "qos-ok", Consume = "consume", ConsumeOk = "consume-ok", Cancel = "cancel",
        CancelOk = "cancel-ok", Publish = "publish", Return = "return", Deliver = "deliver", Get = "get",
        GetOk = "get-ok", GetEmpty = "get-empty", Ack = "ack", Reject = "reject", RecoverAsync = "recover-async",
        Recover = "recover", RecoverOk = "recover-ok", Nack = "nack",
    }
    tx::Tx {
        Select = "select", SelectOk = "select-ok", Commit = "commit", CommitOk = "commit-ok", Rollback = "rollback",
        RollbackOk = "rollback-ok",
    }
    confirm::Confirm { Select = "select", SelectOk = "select-ok" }
}

/// Describes a method for errors: its name, and reply code and text of a close. Credentials are never shown.
pub(super) fn describe(class: &AMQPClass) -> String {
    match class {
        AMQPClass::Connection(
            connection::AMQPMethod::StartOk(_)
            | connection::AMQPMethod::SecureOk(_)
            | connection::AMQPMethod::UpdateSecret(_),
        ) => name(class).to_owned(),
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
            format!("connection.close {} {:?}", close.reply_code, close.reply_text.as_str())
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
            format!("channel.close {} {:?}", close.reply_code, close.reply_text.as_str())
        }
        other => name(other).to_owned(),
    }
}
