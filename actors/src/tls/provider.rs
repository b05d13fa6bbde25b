//! Which cryptography TLS uses.

use std::{io, sync::Arc};

use tokio_rustls::rustls::crypto::CryptoProvider;

use crate::error::{Error, Result};

/// Returns the cryptography of the feature that is on. If both are, or neither, it is the provider that the
/// process has installed; if both are and none is installed, ring.
///
/// Nothing is installed here, and rustls is never asked to choose: with both in one program it panics.
pub(super) fn provider() -> Result<Arc<CryptoProvider>> {
    choose(
        CryptoProvider::get_default().cloned(),
        #[cfg(feature = "tls-ring")]
        Some(tokio_rustls::rustls::crypto::ring::default_provider),
        #[cfg(not(feature = "tls-ring"))]
        None,
        #[cfg(feature = "tls-aws-lc")]
        Some(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider),
        #[cfg(not(feature = "tls-aws-lc"))]
        None,
    )
}

type NewProvider = fn() -> CryptoProvider;

fn choose(
    installed: Option<Arc<CryptoProvider>>,
    ring: Option<NewProvider>,
    aws_lc: Option<NewProvider>,
) -> Result<Arc<CryptoProvider>> {
    match (installed, ring, aws_lc) {
        (_, Some(only), None) | (_, None, Some(only)) | (None, Some(only), Some(_)) => Ok(Arc::new(only())),
        (Some(installed), ..) => Ok(installed),
        (None, None, None) => Err(Error::tls_setup(
            "TLS: no cryptography: enable the feature tls-ring or tls-aws-lc of actix-pika, or install a \
             CryptoProvider",
            io::ErrorKind::Unsupported,
        )),
    }
}

#[cfg(all(test, feature = "tls-ring", feature = "tls-aws-lc"))]
mod tests {
    use tokio_rustls::rustls::crypto::{aws_lc_rs, ring};

    use super::*;

    /// A provider with `suites` cipher suites, by which the tests recognise it.
    fn with_suites(mut provider: CryptoProvider, suites: usize) -> CryptoProvider {
        provider.cipher_suites.truncate(suites);
        provider
    }

    /// TLS-15
    #[test]
    fn the_feature_decides_and_with_both_the_installed_provider_or_else_ring() {
        let ring: NewProvider = || with_suites(ring::default_provider(), 1);
        let aws_lc: NewProvider = || with_suites(aws_lc_rs::default_provider(), 2);
        let installed = || Some(Arc::new(with_suites(ring::default_provider(), 3)));
        let suites = |installed, ring, aws_lc| choose(installed, ring, aws_lc).unwrap().cipher_suites.len();
        assert_eq!(suites(None, Some(ring), None), 1);
        assert_eq!(suites(installed(), Some(ring), None), 1);
        assert_eq!(suites(None, None, Some(aws_lc)), 2);
        assert_eq!(suites(installed(), None, Some(aws_lc)), 2);
        assert_eq!(suites(None, Some(ring), Some(aws_lc)), 1);
        assert_eq!(suites(installed(), Some(ring), Some(aws_lc)), 3);
        assert_eq!(suites(installed(), None, None), 3);
        assert!(choose(None, None, None).unwrap_err().to_string().contains("tls-ring"));
    }
}
