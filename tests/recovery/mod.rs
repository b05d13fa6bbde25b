//! Connections that recover: topology, consumers, publishes, restarts and network faults.

use std::time::Duration;

use actix_pika::OpenChannel;

mod auto_delete;
mod basics;
mod broker_faults;
mod broker_restarts;
mod channel_closes;
mod closing;
mod cluster;
mod consumers;
mod counters;
mod ended_channels;
mod events;
mod locks;
mod missing_consumers;
mod network;
mod network_cuts;
mod publish;
mod records;
mod refusals;
mod refused_publishes;
mod streams;
mod topology;
mod trials;
mod wanted;

/// Channel options with a deadline that a publish keeps over the restart of a node, even on a busy machine.
fn restart_options() -> OpenChannel {
    OpenChannel::new().deadline(Duration::from_secs(300))
}
