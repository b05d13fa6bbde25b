//! The options of TLS from the parameters of a URI: those of RabbitMQ, and those of aio-pika.

use crate::{
    error::{Error, Result},
    tls::TlsOptions,
    uri::{UriParameters, Verify},
};

/// Returns the options of TLS that the parameters describe.
pub(super) fn tls_options(parameters: &UriParameters) -> Result<TlsOptions> {
    let mut tls = TlsOptions::new();
    if let Some(file) = same("cacertfile", &parameters.cacertfile, "cafile", &parameters.cafile)? {
        tls = tls.ca_file(file);
    }
    if let Some(folder) = &parameters.capath {
        tls = tls.ca_folder(folder);
    }
    if let Some(data) = &parameters.cadata {
        tls = tls.ca_base64(data.expose()).ok_or_else(|| {
            Error::uri("AMQP URI: parameter cadata has to be base64 of certificates in DER or PEM")
        })?;
    }
    match (&parameters.certfile, &parameters.keyfile) {
        (None, None) => {}
        // One file with both, as for aio-pika.
        (Some(file), None) => tls = tls.client_certificate(file, file),
        (Some(certificate), Some(key)) => tls = tls.client_certificate(certificate, key),
        (None, Some(_)) => return Err(Error::uri("AMQP URI: parameter keyfile needs certfile")),
    }
    let no_verify = parameters.verify.map(|verify| verify == Verify::None);
    let no_verify = same("verify", &no_verify, "no_verify_ssl", &parameters.no_verify_ssl)?;
    tls = tls.danger_accept_invalid_certs(no_verify.unwrap_or(false));
    if let Some(name) = &parameters.server_name_indication {
        tls = tls.server_name(name);
    }
    Ok(tls)
}

/// Returns the value of two parameters that mean the same.
fn same<T: Clone + PartialEq>(
    key: &str,
    value: &Option<T>,
    other_key: &str,
    other: &Option<T>,
) -> Result<Option<T>> {
    match (value, other) {
        (Some(value), Some(other)) if value != other => {
            Err(Error::uri(format!("AMQP URI: parameters {key} and {other_key} contradict each other")))
        }
        (value, other) => Ok(value.clone().or_else(|| other.clone())),
    }
}
