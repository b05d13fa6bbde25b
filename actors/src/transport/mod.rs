//! Byte streams to the broker: connecting them ([`dial`]), reading in blocks, writing many chunks in one
//! call, the credit that pauses reading, the memory of deliveries, and the time at which the I/O loop ran. No
//! AMQP here.
//!
//! Another kind of stream is another variant of [`Stream`]; nothing else names `TcpStream`. [`Security`] makes
//! a [`Socket`] of it, with TLS or without.

mod blocks;
mod delivery_memory;
mod dial;
mod io_clock;
mod read_credit;
mod reader;
mod security;
mod socket;
mod writer;

pub(crate) use self::{
    delivery_memory::{ChannelShare, JoinedBytes, SMALL, Sizes},
    dial::Candidates,
    io_clock::IoClock,
    read_credit::{CreditAccount, ReadCredit},
    reader::{ReadProgress, Reader},
    security::Security,
    socket::{Socket, Stream},
    writer::Writer,
};
