//! Connections: opening, login, addresses, limits, events, closing.

mod addresses;
mod blocked;
mod closing;
mod dropped_handles;
mod facts;
mod handles;
mod heartbeat;
mod login;
mod open;
mod permissions;
mod refused;
mod runtimes;
mod time_limits;
mod uri;
