//! The only place that names sockets: finding the peer, and moving bytes.

mod dial;
mod reader;
mod writer;

pub(crate) use self::{
    dial::Candidates,
    reader::{ReadProgress, Reader},
    writer::Writer,
};
