//! TLS by rustls: what an application sets, and the `ClientConfig` that is made of it. No sockets here, and no
//! AMQP.
//!
//! | file | what it does |
//! |---|---|
//! | `options` | what an application sets |
//! | `certificates` | reads certificates and keys: files, folders, bytes, the system's authorities |
//! | `config` | the `ClientConfig`, which is made anew when what was read has changed |
//! | `provider` | which cryptography is used |
//! | `verifiers` | accepts any certificate; notes whether the server wants one of the client |
//! | `client` | the handshake on a stream, and what its errors mean |

mod certificates;
mod client;
mod config;
mod options;
mod provider;
mod verifiers;

pub(crate) use self::client::TlsClient;
pub use self::options::TlsOptions;
