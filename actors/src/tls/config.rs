//! The configuration of rustls, made of what the options name.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier};

use super::{
    TlsOptions,
    certificates::{Identity, read_authorities, read_identity},
    client::TlsClient,
    provider::provider,
    verifiers::{AcceptAny, NotesRequest},
};
use crate::error::{Error, Result};

/// A configuration that is ready to use.
#[derive(Clone, Debug)]
pub(super) struct ReadyConfig {
    pub(super) config: Arc<ClientConfig>,
    /// Set by a handshake in which the server wants a certificate of the client.
    pub(super) certificate_wanted: Option<Arc<AtomicBool>>,
}

/// The configuration of the last connect. It is used again, with the sessions that it can resume, as long as
/// what is read stays the same.
#[derive(Default)]
pub(super) struct ConfigCache(Arc<Mutex<LastConfig>>);

#[derive(Default)]
struct LastConfig {
    /// Its keys are random, so nobody can find other bytes with the same digest.
    digests: RandomState,
    last: Option<(u64, ReadyConfig)>,
}

/// A clone is empty, because its owner may change the options.
impl Clone for ConfigCache {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl TlsOptions {
    /// Reads what the options name, on a thread for blocking work, and returns the client for one connect.
    pub(crate) async fn load(&self, within: Duration) -> Result<TlsClient> {
        let ready = match &self.config {
            Some(config) => {
                self.check_that_config_is_alone()?;
                ReadyConfig { config: config.clone(), certificate_wanted: None }
            }
            None => timeout(within, self.make()).await.unwrap_or_else(|_| {
                Err(Error::timeout(format!("reading the certificates: nothing within {within:?}")))
            })?,
        };
        Ok(TlsClient::new(ready, self.server_name.clone(), self.accept_invalid_certs))
    }

    async fn make(&self) -> Result<ReadyConfig> {
        // Held by the thread that reads: while a file system hangs, no attempt starts another one.
        let mut cache = self.cache.0.clone().lock_owned().await;
        let options = self.clone();
        let made = spawn_blocking(move || {
            let LastConfig { digests, last } = &mut *cache;
            let mut digest = digests.build_hasher();
            let material = Material::read(&options, &mut digest)?;
            let digest = digest.finish();
            match last {
                Some((of, ready)) if *of == digest => Ok(ready.clone()),
                _ => {
                    let ready = material.into_config()?;
                    *last = Some((digest, ready.clone()));
                    Ok(ready)
                }
            }
        });
        made.await.unwrap_or_else(|error| Err(Error::stopped(format!("reading the certificates: {error}"))))
    }

    fn check_that_config_is_alone(&self) -> Result<()> {
        let other = [
            ("an authority", !self.authorities.is_empty() || self.system_authorities),
            ("a client certificate", self.client.is_some()),
            ("danger_accept_invalid_certs", self.accept_invalid_certs),
        ];
        match other.iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((what, _)) => Err(Error::tls_setup(
                format!("TLS: a ClientConfig is used as it is, {what} cannot be set beside it"),
                io::ErrorKind::InvalidInput,
            )),
        }
    }
}

/// What was read.
struct Material {
    /// `None` accepts any certificate.
    roots: Option<RootCertStore>,
    identity: Option<Identity>,
}

impl Material {
    fn read(options: &TlsOptions, digest: &mut impl Hasher) -> Result<Self> {
        let roots = if options.accept_invalid_certs {
            None
        } else {
            Some(read_authorities(&options.authorities, options.system_authorities, digest)?)
        };
        let identity = options.client.as_ref().map(|client| read_identity(client, digest)).transpose()?;
        Ok(Self { roots, identity })
    }

    fn into_config(self) -> Result<ReadyConfig> {
        let failed =
            |error: &dyn fmt::Display| Error::tls_setup(format!("TLS: {error}"), io::ErrorKind::InvalidData);
        let provider = provider()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let builder = match self.roots {
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider))),
            Some(roots) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| failed(&error))?;
                builder.with_webpki_verifier(verifier)
            }
        };
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed(&format_args!("the client's certificate and its key: {error}")))?,
        };
        let wanted = Arc::<AtomicBool>::default();
        config.client_auth_cert_resolver = Arc::new(NotesRequest {
            certificates: config.client_auth_cert_resolver.clone(),
            wanted: wanted.clone(),
        });
        Ok(ReadyConfig { config: Arc::new(config), certificate_wanted: Some(wanted) })
    }
}
