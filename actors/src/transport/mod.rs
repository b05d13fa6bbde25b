//! Byte streams to the broker: connecting them ([`dial`]), reading in blocks, writing many chunks in one
//! call, and the credit that pauses reading. No AMQP here.
//!
//! Another kind of stream is another variant of [`Socket`]; nothing else names `TcpStream`.

mod dial;
mod read_credit;
mod reader;
mod socket;
mod writer;

pub(crate) use self::{
    dial::Candidates,
    read_credit::{CreditAccount, ReadCredit},
    reader::{ReadProgress, Reader},
    socket::Socket,
    writer::Writer,
};
