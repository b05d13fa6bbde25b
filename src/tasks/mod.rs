//! Typed consumers: a message is decoded into a [`Task`], a handler returns [`Done`], and that settles the message.

pub use self::{
    failure::{Done, Failure, OrReject, Verdict},
    task::Task,
    token::TaskToken,
};

mod failure;
mod task;
mod token;
