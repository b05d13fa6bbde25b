//! The message that a handler of a typed consumer gets.

use std::{fmt, ops::Deref};

use actix::Message;

use super::{Done, TaskToken};
use crate::{hook::TaskScope, message::Content};

/// A typed message to be handled: the decoded value, which it dereferences to, and what came with it.
///
/// It is an actix message whose result is [`Done`]. The handler cannot settle it: what it returns does.
///
/// **Over a reconnect**: the handler goes on. The broker delivers the message again, and that copy waits until
/// the handler has ended.
///
/// # Examples
/// ```
/// use actix::prelude::*;
/// use actix_pika::tasks::{Done, Task};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Email { to: String }
///
/// struct Mailer;
///
/// impl Actor for Mailer {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Task<Email>> for Mailer {
///     type Result = Done;
///
///     fn handle(&mut self, email: Task<Email>, _: &mut Self::Context) -> Done {
///         println!("try {} of the mail to {}", email.attempt(), email.to);
///         Ok(())
///     }
/// }
/// ```
#[must_use = "a task that is dropped is not handled"]
pub struct Task<T> {
    value: T,
    content: Content,
    attempt: u32,
    token: TaskToken,
    scope: TaskScope,
}

impl<T> Task<T> {
    pub(crate) fn new(value: T, content: Content, attempt: u32, token: TaskToken, scope: TaskScope) -> Self {
        Self { value, content, attempt, token, scope }
    }

    /// Creates a task without a broker, to test a handler with.
    ///
    /// [`TestContent`](crate::testing::TestContent) makes its content. A [`TestTask`](crate::testing::TestTask)
    /// sets more, and returns what a handler says.
    #[cfg(feature = "testing")]
    pub fn for_test(value: T, content: Content) -> Self {
        Self::for_test_try(value, content, 1)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn for_test_try(value: T, content: Content, attempt: u32) -> Self {
        Self::new(value, content, attempt, TaskToken::new().0, TaskScope::default())
    }

    /// Returns the body, properties and names of the message.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::Task;
    /// fn id(task: &Task<String>) -> Option<&str> {
    ///     task.content().properties().ok()?.message_id()
    /// }
    /// ```
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the queue that delivered the message.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::Task;
    /// fn is_urgent(task: &Task<String>) -> bool {
    ///     task.queue() == "urgent"
    /// }
    /// ```
    pub fn queue(&self) -> &str {
        self.content.queue()
    }

    /// Returns which try this is, from 1 on. Retries are counted, redeliveries by the broker are not.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::Task;
    /// fn is_retry(task: &Task<String>) -> bool {
    ///     task.attempt() > 1
    /// }
    /// ```
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether the broker may have delivered the message before.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::Task;
    /// fn may_be_a_copy(task: &Task<String>) -> bool {
    ///     task.redelivered()
    /// }
    /// ```
    pub fn redelivered(&self) -> bool {
        self.content.redelivered()
    }

    /// Returns the spans that [hooks](crate::hook) have made of this task, for the handler of an actor.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Done, Task};
    /// fn handle(mail: Task<String>) -> Done {
    ///     let scope = mail.scope();
    ///     scope.enter(|| Ok(println!("{}", *mail)))
    /// }
    /// ```
    pub fn scope(&self) -> TaskScope {
        self.scope.clone()
    }

    /// Returns the value, the content, and the token that shows whether the task is still being handled: keep it until
    /// the task is done.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Done, Task};
    /// async fn store(task: Task<String>) -> Done {
    ///     let (text, _content, _token) = task.into_parts();
    ///     println!("{}", String::leak(text));
    ///     Ok(())
    /// }
    /// ```
    pub fn into_parts(self) -> (T, Content, TaskToken) {
        self.token.begin();
        (self.value, self.content, self.token)
    }
}

impl<T> Deref for Task<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.token.begin();
        &self.value
    }
}

impl<T: 'static> Message for Task<T> {
    type Result = Done;
}

impl<T: fmt::Debug> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("value", &self.value)
            .field("queue", &self.queue())
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
