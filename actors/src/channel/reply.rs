//! Replies that come later: a handler returns a [`Reply`], keeps its [`Responder`] and uses it when the
//! broker has replied.

use std::{cell::RefCell, rc::Rc};

use actix::{
    Actor, Message,
    dev::{MessageResponse, OneshotSender},
};
#[cfg(any(test, feature = "testing"))]
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// The result of a handler that replies later.
///
/// Only the actors of this crate create it. A caller receives the reply as the result of `Addr::send`.
#[derive(Debug)]
pub struct Reply<T>(Rc<RefCell<Slot<T>>>);

/// Completes a [`Reply`]. Dropped unused, the caller gets a [`MailboxError`](actix::MailboxError).
#[derive(Debug)]
pub(crate) struct Responder<T>(Rc<RefCell<Slot<T>>>);

#[derive(Debug)]
enum Slot<T> {
    /// The handler has not returned yet.
    Fresh,
    Waiting(OneshotSender<Result<T>>),
    Answered(Result<T>),
    /// Completed, or without a caller.
    Done,
}

impl<T> Reply<T> {
    pub(crate) fn later() -> (Self, Responder<T>) {
        let slot = Rc::new(RefCell::new(Slot::Fresh));
        (Self(slot.clone()), Responder(slot))
    }

    pub(crate) fn now(answer: Result<T>) -> Self {
        Self(Rc::new(RefCell::new(Slot::Answered(answer))))
    }

    /// Passes the reply on to `to` as soon as there is one.
    pub(crate) fn forward(self, to: Responder<T>) {
        let Slot::Waiting(waiting) = std::mem::replace(&mut *to.0.borrow_mut(), Slot::Done) else {
            return;
        };
        self.answer_to(waiting);
    }

    /// Sends the reply to `tx` as soon as there is one.
    fn answer_to(self, tx: OneshotSender<Result<T>>) {
        let slot = std::mem::replace(&mut *self.0.borrow_mut(), Slot::Done);
        match slot {
            Slot::Answered(answer) => {
                let _ = tx.send(answer);
            }
            Slot::Fresh if Rc::strong_count(&self.0) > 1 => *self.0.borrow_mut() = Slot::Waiting(tx),
            Slot::Fresh | Slot::Waiting(_) | Slot::Done => {
                let _ = tx.send(Err(Error::stopped("the call was dropped unanswered")));
            }
        }
    }

    /// Waits for the reply as a caller does.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn listen(self) -> Answer<T> {
        let (tx, answer) = oneshot::channel();
        self.answer_to(tx);
        Answer(RefCell::new(answer))
    }
}

/// A call under test.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub(crate) struct Answer<T>(RefCell<oneshot::Receiver<Result<T>>>);

#[cfg(feature = "testing")]
impl<T> Answer<T> {
    /// Returns whether the call has an outcome, which may be that it was dropped.
    pub(crate) fn is_complete(&self) -> bool {
        !matches!(self.0.borrow_mut().try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

#[cfg(test)]
impl<T> Answer<T> {
    /// Takes the reply, if there is one.
    pub(crate) fn take(&self) -> Option<Result<T>> {
        self.0.borrow_mut().try_recv().ok()
    }

    /// Takes the reply and returns whether it is one without an error.
    pub(crate) fn is_ok(&self) -> bool {
        self.take().is_some_and(|answer| answer.is_ok())
    }

    /// Takes the reply and returns the kind of its error.
    pub(crate) fn error_kind(&self) -> Option<crate::error::ErrorKind> {
        self.take().and_then(Result::err).map(|error| error.kind())
    }
}

impl<T> Responder<T> {
    /// Creates one without a caller: its reply goes nowhere.
    pub(crate) fn without_caller() -> Self {
        Self(Rc::new(RefCell::new(Slot::Fresh)))
    }

    /// Returns whether a caller waited and gave up. A message that was sent without waiting never gives up.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(&*self.0.borrow(), Slot::Waiting(tx) if tx.is_closed())
    }

    /// Sends the reply; returns it if no caller waits for it.
    pub(crate) fn send(self, answer: Result<T>) -> Result<(), Result<T>> {
        let slot = std::mem::replace(&mut *self.0.borrow_mut(), Slot::Done);
        match slot {
            Slot::Waiting(tx) => tx.send(answer),
            Slot::Fresh if Rc::strong_count(&self.0) > 1 => {
                *self.0.borrow_mut() = Slot::Answered(answer);
                Ok(())
            }
            Slot::Fresh | Slot::Answered(_) | Slot::Done => Err(answer),
        }
    }
}

impl<A, M, T> MessageResponse<A, M> for Reply<T>
where
    A: Actor,
    M: Message<Result = Result<T>>,
    T: 'static,
{
    fn handle(self, _: &mut A::Context, tx: Option<OneshotSender<Result<T>>>) {
        match tx {
            Some(tx) => self.answer_to(tx),
            None => *self.0.borrow_mut() = Slot::Done,
        }
    }
}
