//! Connections: connecting, authentication, addresses, limits, events, closing.

mod addresses;
mod blocked;
mod closing;
mod dropped_handles;
mod failed_connects;
mod handles;
mod heartbeat;
mod limits;
mod login;
mod open;
mod permissions;
#[cfg(target_os = "linux")]
mod placement;
mod runtimes;
mod state;
mod time_limits;
#[cfg(feature = "tls")]
mod tls;
mod uri;
mod versions;
