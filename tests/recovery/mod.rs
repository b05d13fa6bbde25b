//! Connections that recover: topology, consumers, publishes, restarts and network faults.

mod basics;
mod broker_faults;
mod broker_restarts;
mod closing;
mod cluster;
mod consumers;
mod events;
mod locks;
mod network;
mod network_cuts;
mod publish;
mod records;
mod streams;
mod topology;
