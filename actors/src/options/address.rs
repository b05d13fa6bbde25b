//! Where a broker may be, and in which order the places are tried.

use std::fmt;

/// Names one host to connect to.
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
    /// Names a host and its port.
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

/// As a URI has it: an IPv6 address in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Says in which order several addresses are tried, at each connect from the start.
///
/// Each address has the whole connect limit for itself. A refusal of the login or of the virtual host ends
/// the round: the others are nodes of the same cluster.
///
/// # Examples
/// ```
/// # use actix_pika_actors::AddressOrder;
/// assert_eq!(AddressOrder::default(), AddressOrder::InOrder);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressOrder {
    /// As they were given.
    #[default]
    InOrder,
    /// In another order at each connect, so that many clients spread over the nodes of a cluster.
    Shuffled,
}

impl AddressOrder {
    /// Puts the addresses in the order in which they are tried now.
    pub(crate) fn arrange<T>(self, addresses: &mut [T]) {
        match self {
            Self::InOrder => {}
            Self::Shuffled => fastrand::shuffle(addresses),
        }
    }
}

/// Says how the addresses of one name are raced, if at all (RFC 8305). By default they are not: one is tried
/// after the other, in the order of the name service.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::HappyEyeballs;
/// let mut race = HappyEyeballs::default();
/// race.delay = Some(Duration::from_millis(250));
/// race.interleave = Some(1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HappyEyeballs {
    /// How long one address has before the next is tried beside it; `None` tries one after the other.
    pub delay: Option<std::time::Duration>,
    /// How many addresses of the first family come before those of the other begin to alternate with them; `None`
    /// leaves them in the order of the name service.
    pub interleave: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        assert_eq!(Address::new("::1", 5672).to_string(), "[::1]:5672");
        assert_eq!(Address::new("localhost", 5672).to_string(), "localhost:5672");
    }

    #[test]
    fn shuffling_loses_nothing_and_changes_the_order() {
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
