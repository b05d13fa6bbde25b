//! The broker's addresses, and the order in which they are tried.

use std::fmt;

/// Holds a host and a port to connect to.
///
/// # Examples
/// ```
/// # use actix_pika_actors::Address;
/// assert_eq!(Address::new("::1", 5672).to_string(), "[::1]:5672");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// Name or IP address; an IPv6 address has no brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// Creates an address.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Address;
    /// let address = Address::new("rabbit.example", 5673);
    /// assert_eq!((address.host.as_str(), address.port), ("rabbit.example", 5673));
    /// ```
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

/// Writes the address as in a URI: an IPv6 address in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Selects the order in which the addresses are tried. Each connect starts over with the whole list.
///
/// The connect timeout applies to each address separately. Each connect tries an address once at most, so
/// that a wrong password cannot lock an account.
///
/// # Examples
/// ```
/// # use actix_pika_actors::AddressOrder;
/// assert_eq!(AddressOrder::default(), AddressOrder::InOrder);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressOrder {
    /// The order in which they were added.
    #[default]
    InOrder,
    /// A random order at each connect, which spreads clients over the nodes of a cluster.
    Shuffled,
}

impl AddressOrder {
    /// Sorts the addresses into the order for one connect.
    pub(crate) fn arrange<T>(self, addresses: &mut [T]) {
        match self {
            Self::InOrder => {}
            Self::Shuffled => fastrand::shuffle(addresses),
        }
    }
}

/// Sets how the IP addresses of one host name are raced (RFC 8305).
///
/// By default they are not raced: one is tried after the other, in the order of the name service.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::HappyEyeballs;
/// let mut racing = HappyEyeballs::default();
/// racing.delay = Some(Duration::from_millis(250));
/// racing.interleave = Some(1);
/// assert_ne!(racing, HappyEyeballs::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HappyEyeballs {
    /// How long one address is tried before the next one is tried in parallel; `None` tries one after the
    /// other.
    pub delay: Option<std::time::Duration>,
    /// How many addresses of the first family are tried before the two families alternate; `None` keeps the
    /// order of the name service.
    pub interleave: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_address_is_written_in_brackets() {
        assert_eq!(Address::new("::1", 5672).to_string(), "[::1]:5672");
        assert_eq!(Address::new("localhost", 5672).to_string(), "localhost:5672");
    }

    #[test]
    fn shuffling_changes_only_the_order() {
        let straight: Vec<u32> = (0..64).collect();
        let mut shuffled = straight.clone();
        AddressOrder::InOrder.arrange(&mut shuffled);
        assert_eq!(shuffled, straight);
        AddressOrder::Shuffled.arrange(&mut shuffled);
        assert_ne!(shuffled, straight);
        shuffled.sort_unstable();
        assert_eq!(shuffled, straight);
    }
}
