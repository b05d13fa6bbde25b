//! Publishers as recipients of actix.

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient,
    dev::{MessageResponse, OneshotSender},
};
use actix_pika_actors::facade;

use super::{
    Publisher,
    publish::{self, queue},
};
use crate::{Error, Result, caught::caught, codec::Codec, message::Confirmation, runtime};

/// The results of messages that a [`Publisher::recipient`] takes: `Result<Confirmation>`, or `()`.
///
/// # Examples
/// ```
/// use actix_pika::{Result, message::Confirmation, publisher::PublishResult};
///
/// fn is_one<R: PublishResult>() {}
/// is_one::<Result<Confirmation>>();
/// is_one::<()>();
/// ```
pub trait PublishResult: sealed::Sealed + Send + 'static {}

mod sealed {
    use crate::{Result, message::Confirmation};

    pub trait Sealed: Sized {
        /// Returns the reply to the sender; `None` leaves it without one.
        fn of(outcome: Result<Confirmation>) -> Option<Self>;
    }

    impl Sealed for Result<Confirmation> {
        fn of(outcome: Result<Confirmation>) -> Option<Self> {
            Some(outcome)
        }
    }

    impl Sealed for () {
        fn of(outcome: Result<Confirmation>) -> Option<()> {
            outcome
                .map_err(|error| log::warn!("a message of a recipient was not published: {error}"))
                .ok()?;
            Some(())
        }
    }
}

impl PublishResult for Result<Confirmation> {}
impl PublishResult for () {}

impl<T, C> Publisher<T, C>
where
    T: Message + Send + 'static,
    T::Result: PublishResult,
    C: Codec<T>,
{
    /// Returns a recipient that publishes what it is sent, for actors that do not know of the broker. It is an actor on
    /// the arbiter of the caller, and ends when its last address is dropped and the last publish is made.
    ///
    /// | result of the message | `send` returns | a publish that fails |
    /// |---|---|---|
    /// | `Result<Confirmation>` | after the confirm | is the result |
    /// | `()` | `Ok` after the confirm | is logged; `send` returns `MailboxError::Closed` |
    ///
    /// A codec or a function of the [key](Self::key_by) that panics makes that publish fail with `Codec`.
    ///
    /// While the publish window is full it takes no message from its mailbox, so that `try_send` fails with
    /// `SendError::Full`. `do_send` has no such limit: its messages wait in the mailbox.
    ///
    /// # Errors
    /// `Refused` without a code if the calling thread has no arbiter.
    ///
    /// **Over a reconnect**: as for [`publish`](Self::publish).
    ///
    /// # Examples
    /// ```no_run
    /// use actix::prelude::*;
    ///
    /// #[derive(Message, serde::Serialize, serde::Deserialize)]
    /// #[rtype(result = "()")]
    /// struct UserCreated { id: u64 }
    ///
    /// struct Accounts {
    ///     created: Recipient<UserCreated>, // an actor, or a queue
    /// }
    ///
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let created = channel.exchange("users").publisher::<UserCreated>().key("user.created");
    /// let accounts = Accounts { created: created.recipient()? };
    /// accounts.created.do_send(UserCreated { id: 7 });
    /// # Ok(())
    /// # }
    /// ```
    pub fn recipient(&self) -> Result<Recipient<T>> {
        if runtime::here().is_none() {
            return Err(facade::refused("a recipient needs an arbiter, and the calling thread has none"));
        }
        Ok(PublishActor { publisher: self.clone() }.start().recipient())
    }
}

struct PublishActor<T, C> {
    publisher: Publisher<T, C>,
}

impl<T: 'static, C: 'static> Actor for PublishActor<T, C> {
    type Context = Context<Self>;
}

impl<T, C> Handler<T> for PublishActor<T, C>
where
    T: Message + Send + 'static,
    T::Result: PublishResult,
    C: Codec<T>,
{
    type Result = Outgoing;

    fn handle(&mut self, value: T, _: &mut Self::Context) -> Outgoing {
        // A panic costs this message only.
        let message = caught(|| self.publisher.message(&value, |message| message));
        caught(|| drop(value));
        Outgoing(
            message.unwrap_or_else(|| Err(Error::codec("the codec or the function of the key panicked"))),
        )
    }
}

/// The message of a value. It replies when the broker has.
struct Outgoing(Result<publish::Outgoing>);

impl<T, C> MessageResponse<PublishActor<T, C>, T> for Outgoing
where
    T: Message + Send + 'static,
    T::Result: PublishResult,
    C: Codec<T>,
{
    fn handle(self, ctx: &mut Context<PublishActor<T, C>>, sender: Option<OneshotSender<T::Result>>) {
        let message = match self.0 {
            Ok(message) => message,
            Err(error) => return reply::<T>(Err(error), sender),
        };
        let queued = actix::fut::wrap_future::<_, PublishActor<T, C>>(queue(message)).map(|queued, _, _| {
            actix_rt::spawn(async move {
                let outcome = match queued {
                    Ok(queued) => queued.confirmed().await,
                    Err(error) => Err(error),
                };
                reply::<T>(outcome, sender);
            });
        });
        // The next message is taken when this one has its place in the publish window.
        ctx.wait(queued);
    }
}

fn reply<T: Message>(outcome: Result<Confirmation>, sender: Option<OneshotSender<T::Result>>)
where
    T::Result: PublishResult,
{
    if let (Some(reply), Some(sender)) = (sealed::Sealed::of(outcome), sender) {
        let _ = sender.send(reply);
    }
}
