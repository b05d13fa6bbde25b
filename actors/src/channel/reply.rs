//! Answers that come later: a handler keeps the way back and uses it when the broker has spoken.

use std::{cell::RefCell, rc::Rc};

use actix::{
    Actor, Message,
    dev::{MessageResponse, OneshotSender},
};

use crate::error::{Error, Result};

/// Stands for the answer of a handler that will answer later. Only the actors of this crate make one; who sends them a
/// message awaits the answer as ever.
#[derive(Debug)]
pub struct Reply<T>(Rc<RefCell<Slot<T>>>);

/// The other end: whoever holds it answers, and if it is dropped, the caller hears that the actor is gone.
#[derive(Debug)]
pub(crate) struct Responder<T>(Rc<RefCell<Slot<T>>>);

#[derive(Debug)]
enum Slot<T> {
    /// The handler has not returned yet.
    Fresh,
    WaitingCall(OneshotSender<Result<T>>),
    Answered(Result<T>),
    /// Nobody waits, or nobody does any more.
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
}

impl<T> Reply<T> {
    /// Answers who waits at `to` as soon as this one is answered.
    pub(crate) fn forward(self, to: Responder<T>) {
        let waiting = match std::mem::replace(&mut *to.0.borrow_mut(), Slot::Done) {
            Slot::WaitingCall(tx) => tx,
            // Nobody waits any more.
            _ => return,
        };
        let slot = std::mem::replace(&mut *self.0.borrow_mut(), Slot::Done);
        match slot {
            Slot::Answered(answer) => drop(waiting.send(answer)),
            Slot::Fresh if Rc::strong_count(&self.0) > 1 => *self.0.borrow_mut() = Slot::WaitingCall(waiting),
            Slot::Fresh | Slot::WaitingCall(_) | Slot::Done => {
                drop(waiting.send(Err(Error::stopped("the call was dropped unanswered"))));
            }
        }
    }
}

impl<T> Responder<T> {
    /// Tells whether somebody waited, and does not any more. Who only sent the message never did.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(&*self.0.borrow(), Slot::WaitingCall(tx) if tx.is_closed())
    }

    /// Answers; gives the answer back if nobody waits for it.
    pub(crate) fn send(self, answer: Result<T>) -> Result<(), Result<T>> {
        let slot = std::mem::replace(&mut *self.0.borrow_mut(), Slot::Done);
        match slot {
            Slot::WaitingCall(tx) => tx.send(answer),
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
        let slot = std::mem::replace(&mut *self.0.borrow_mut(), Slot::Done);
        match (slot, tx) {
            (Slot::Answered(answer), Some(tx)) => {
                // Nobody waits any more: nothing to do about it here.
                let _ = tx.send(answer);
            }
            (Slot::Fresh, Some(tx)) if Rc::strong_count(&self.0) > 1 => {
                *self.0.borrow_mut() = Slot::WaitingCall(tx);
            }
            (Slot::Fresh, Some(tx)) => {
                let _ = tx.send(Err(Error::stopped("the call was dropped unanswered")));
            }
            _ => {}
        }
    }
}
