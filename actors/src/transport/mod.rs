//! The only place that names sockets: finding the peer, and moving bytes.

mod dial;
mod read_credit;
mod reader;
mod writer;

pub(crate) use self::{
    dial::Candidates,
    read_credit::{CreditAccount, ReadCredit},
    reader::{ReadProgress, Reader},
    writer::Writer,
};
