//! Connection options from URIs.

use std::{str::FromStr, time::Duration};

#[cfg(feature = "tls")]
use super::tls_parameters::tls_options;
use super::{Address, ConnectionOptions, uri_list::parse_list};
use crate::{
    credentials::{Credentials, SharedProvider},
    error::{Error, Result},
    uri::{AmqpUri, Scheme, UriParameters},
    wire::Mechanism,
};

impl ConnectionOptions {
    /// Creates options from one URI, or from several URIs of the nodes of a cluster.
    ///
    /// The first URI has all options. The others add addresses; they may omit everything else.
    ///
    /// # Errors
    /// `Uri` for an invalid part, an unknown parameter, a parameter of TLS without `amqps`, `amqps` without a
    /// feature of TLS, parameters or URIs that contradict each other, or an empty list. The error names the
    /// part or the parameter, and never contains the password.
    ///
    /// Source: <https://www.rabbitmq.com/docs/uri-spec>;
    /// <https://www.rabbitmq.com/docs/uri-query-parameters>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{ConnectionOptions, Result};
    /// # fn main() -> Result<()> {
    /// let options = ConnectionOptions::from_uris(["amqp://app:secret@rabbit-1/orders?fail_fast=0", "amqp://rabbit-2"])?;
    /// assert_eq!((options.vhost.as_str(), options.other_addresses.len(), options.fail_fast), ("orders", 1, false));
    /// # Ok(()) }
    /// ```
    pub fn from_uris<T: AsRef<str>>(uris: impl IntoIterator<Item = T>) -> Result<Self> {
        let (uri, others) = parse_list(uris).map_err(|error| Error::uri(error.to_string()))?;
        let mut options = Self::from_uri(uri)?;
        options.other_addresses = others;
        Ok(options)
    }

    fn from_uri(uri: AmqpUri) -> Result<Self> {
        if let (Scheme::Amqp, Some(key)) = (uri.scheme, uri.parameters.needs_tls()) {
            return Err(Error::uri(format!("AMQP URI: parameter {key} applies to amqps only")));
        }
        #[cfg(not(feature = "tls"))]
        if uri.scheme == Scheme::Amqps {
            return Err(Error::uri(
                "AMQP URI: amqps needs the feature tls-ring (a default feature) or tls-aws-lc of actix-pika",
            ));
        }
        let mut options = Self {
            #[cfg(feature = "tls")]
            tls: match uri.scheme {
                Scheme::Amqp => None,
                Scheme::Amqps => Some(tls_options(&uri.parameters)?),
            },
            scheme: Some(uri.scheme),
            address: Address::new(uri.host, uri.port),
            credentials: SharedProvider::new(Credentials::new(uri.user, uri.password)),
            vhost: uri.vhost,
            ..Self::default()
        };
        options.set_parameters(uri.parameters)?;
        Ok(options)
    }

    fn set_parameters(&mut self, parameters: UriParameters) -> Result<()> {
        self.heartbeat = parameters.heartbeat.map(|seconds| Duration::from_secs(seconds.into()));
        set(&mut self.channel_max, parameters.channel_max);
        set(&mut self.frame_max, parameters.frame_max);
        set(&mut self.fail_fast, parameters.fail_fast);
        // `connection_timeout` takes precedence.
        set(&mut self.connect_timeout, not_zero("timeout", parameters.timeout)?);
        set(&mut self.connect_timeout, not_zero("connection_timeout", parameters.connection_timeout)?);
        if !parameters.auth_mechanism.is_empty() {
            let named = parameters.auth_mechanism.iter().map(|name| Mechanism::named(name));
            self.mechanisms = named.collect::<Option<_>>().ok_or_else(|| {
                Error::uri("AMQP URI: parameter auth_mechanism has to be PLAIN, AMQPLAIN or EXTERNAL")
            })?;
        }
        self.reconnect_interval = parameters.reconnect_interval;
        self.happy_eyeballs.delay = parameters.happy_eyeballs_delay;
        self.happy_eyeballs.interleave = parameters.interleave;
        if let Some(name) = parameters.name {
            self.client_properties.insert("connection_name", name);
        }
        Ok(())
    }
}

fn set<T>(option: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *option = value;
    }
}

fn not_zero(key: &str, timeout: Option<Duration>) -> Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => Err(Error::uri(format!("AMQP URI: parameter {key} has to be more than 0"))),
        timeout => Ok(timeout),
    }
}

impl FromStr for ConnectionOptions {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self> {
        Self::from_uris([uri])
    }
}
