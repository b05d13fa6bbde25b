//! The broker around its core: sockets, the handshake, frames, heartbeats. One lock has the core and all connections;
//! the actors read, write, and wait for the time.

mod admin;
mod alarm;
mod builder;
mod chaos;
mod clock;
mod contents;
mod distribute;
mod encode;
mod faults;
mod frames;
mod handle;
mod handshake;
mod in_vhost;
mod listener;
mod lock;
mod look;
mod memory;
mod node;
mod parts;
mod peer;
mod policies;
mod port;
mod shared;
mod socket;
mod start;
mod state;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
pub use self::tls::ClientCertificate;
pub use self::{
    builder::{Builder, StartError},
    chaos::{Chaos, ChaosBuilder, Fault, FaultKind},
    handle::Broker,
    in_vhost::{InVhost, VhostState},
    look::{BrokerState, ConnectionView},
};
