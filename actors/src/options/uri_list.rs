//! A list of URIs for one connection: the nodes of a cluster.

use super::Address;
use crate::uri::{AmqpUri, UriError};

/// Parses a list of URIs: the first one is complete, the others add addresses of further nodes.
///
/// Returns the first URI and the addresses of the others. The login, virtual host and parameters of the
/// others must be left out or be equal to those of the first.
///
/// # Errors
/// The error of the first URI that is invalid; [`Differs`](UriError::Differs) for another scheme, login,
/// virtual host or list of parameters; [`None`](UriError::None) for an empty list.
pub(super) fn parse_list<T: AsRef<str>>(
    uris: impl IntoIterator<Item = T>,
) -> Result<(AmqpUri, Vec<Address>), UriError> {
    let mut uris = uris.into_iter();
    let first: AmqpUri = uris.next().ok_or(UriError::None)?.as_ref().parse()?;
    let others = uris.map(|text| other(&first, text.as_ref())).collect::<Result<_, _>>()?;
    Ok((first, others))
}

fn other(first: &AmqpUri, text: &str) -> Result<Address, UriError> {
    let uri: AmqpUri = text.parse()?;
    let present = PresentParts::of(text);
    let login = (&uri.user, &uri.password) != (&first.user, &first.password);
    for (part, differs) in [
        ("scheme", uri.scheme != first.scheme),
        ("login", present.login && login),
        ("virtual host", present.vhost && uri.vhost != first.vhost),
        ("list of parameters", present.parameters && uri.parameters != first.parameters),
    ] {
        if differs {
            return Err(UriError::Differs { part });
        }
    }
    Ok(Address::new(uri.host, uri.port))
}

/// Whether a URI contains these parts, instead of leaving them to their defaults.
struct PresentParts {
    login: bool,
    vhost: bool,
    parameters: bool,
}

impl PresentParts {
    fn of(text: &str) -> Self {
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        Self { login: authority.contains('@'), vhost: !path.is_empty(), parameters: !query.is_empty() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_uris_add_addresses_and_must_not_contradict_the_first() {
        let first = "amqp://alice:secret@a/v?heartbeat=5";
        for other in ["amqp://b", "amqp://b/", "amqp://alice:secret@b:5672/v?heartbeat=5", "AMQP://b/v"] {
            let (uri, others) = parse_list([first, other]).unwrap();
            assert_eq!((uri.host.as_str(), others), ("a", vec![Address::new("b", 5672)]), "{other}");
        }
        for (other, part) in [
            ("amqps://b", "scheme"),
            ("amqp://bob:secret@b", "login"),
            ("amqp://alice:other@b", "login"),
            ("amqp://guest:guest@b", "login"),
            ("amqp://b/w", "virtual host"),
            ("amqp://b/%2F", "virtual host"),
            ("amqp://b?heartbeat=6", "list of parameters"),
        ] {
            assert_eq!(parse_list([first, other]), Err(UriError::Differs { part }), "{other}");
        }
        assert_eq!(parse_list([first, "amqp://b:x"]), Err(UriError::Port));
        assert_eq!(parse_list::<&str>([]), Err(UriError::None));
        let v6 = parse_list(["amqp://a", "amqp://[::1]:7"]).unwrap().1;
        assert_eq!(v6, [Address::new("::1", 7)]);
    }
}
