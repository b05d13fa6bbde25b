//! Reads certificates and private keys. All of this blocks.

use std::{
    fs,
    hash::{Hash, Hasher},
    io,
    path::Path,
};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use zeroize::Zeroizing;

use super::options::{Authorities, ClientCertificate, PemSource};
use crate::error::{Error, Result};

/// A certificate with those of its intermediate authorities, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads trusted authorities. Everything that is read goes into `digest`.
pub(super) fn read_authorities(
    authorities: &[Authorities],
    system: bool,
    digest: &mut impl Hasher,
) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if system || authorities.is_empty() {
        add_all(&mut roots, read_system()?, digest);
    }
    for source in authorities {
        match source {
            Authorities::File(path) => {
                let found = certificates(&read(path)?, &shown(path))?;
                add_each(&mut roots, found, &shown(path), digest)?;
            }
            Authorities::Folder(path) => {
                if add_all(&mut roots, read_folder(path)?, digest) == 0 {
                    return Err(invalid(format!("no certificate of an authority in {}", shown(path))));
                }
            }
            Authorities::Bytes(bytes) => {
                let from = "the bytes of the authorities";
                add_each(&mut roots, certificates(bytes, from)?, from, digest)?;
            }
        }
    }
    Ok(roots)
}

/// Reads the client's certificate and key. Everything that is read goes into `digest`.
pub(super) fn read_identity(client: &ClientCertificate, digest: &mut impl Hasher) -> Result<Identity> {
    let (bytes, from) = read_source(&client.chain, "the bytes of the client's certificate")?;
    let chain = certificates(&bytes, &from)?;
    let (bytes, from) = read_source(&client.key, "the bytes of the client's key")?;
    let key = private_key(&bytes, &from)?;
    chain.iter().for_each(|certificate| certificate.as_ref().hash(digest));
    key.secret_der().hash(digest);
    Ok((chain, key))
}

fn read_system() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        Some(error) if found.certs.is_empty() => {
            Err(Error::tls_setup(format!("TLS: the system's authorities: {error}"), io::ErrorKind::NotFound))
        }
        None if found.certs.is_empty() => Err(Error::tls_setup(
            "TLS: the system has no authorities: install its package ca-certificates, or set those to trust",
            io::ErrorKind::NotFound,
        )),
        error => {
            if let Some(error) = error {
                log::debug!("TLS: not all of the system's authorities can be read: {error}");
            }
            Ok(found.certs)
        }
    }
}

/// Reads the certificates of all files of a folder. What has none is left out.
fn read_folder(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |error| unreadable(path, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    // The order of a folder may change while its content does not.
    files.sort_unstable();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        match read(file).and_then(|bytes| certificates(&bytes, &shown(file))) {
            Ok(certificates) => found.extend(certificates),
            Err(error) => log::debug!("left out: {error}"),
        }
    }
    Ok(found)
}

/// Adds what can be used, and returns how many that are.
fn add_all(
    roots: &mut RootCertStore,
    found: Vec<CertificateDer<'static>>,
    digest: &mut impl Hasher,
) -> usize {
    found.iter().for_each(|certificate| certificate.as_ref().hash(digest));
    roots.add_parsable_certificates(found).0
}

fn add_each(
    roots: &mut RootCertStore,
    found: Vec<CertificateDer<'static>>,
    from: &str,
    digest: &mut impl Hasher,
) -> Result<()> {
    for certificate in found {
        certificate.as_ref().hash(digest);
        roots.add(certificate).map_err(|error| invalid(format!("an authority of {from}: {error}")))?;
    }
    Ok(())
}

fn read_source<'a>(
    source: &PemSource,
    bytes_are: &'static str,
) -> Result<(Zeroizing<Vec<u8>>, std::borrow::Cow<'a, str>)> {
    match source {
        PemSource::File(path) => Ok((read(path)?, shown(path).into())),
        PemSource::Bytes(bytes) => Ok((Zeroizing::clone(bytes), bytes_are.into())),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    fs::read(path).map(Zeroizing::new).map_err(|error| unreadable(path, &error))
}

/// Returns the certificates of PEM, or of DER, where one may follow another.
fn certificates(bytes: &[u8], from: &str) -> Result<Vec<CertificateDer<'static>>> {
    if is_der(bytes) {
        let found = split_der(bytes).ok_or_else(|| invalid(format!("{from} is no valid DER")))?;
        return Ok(found.into_iter().map(|one| CertificateDer::from(one.to_vec())).collect());
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| invalid(format!("{from} is no valid PEM")))?;
    if found.is_empty() {
        return Err(invalid(format!("no certificate in {from}")));
    }
    Ok(found)
}

/// Returns the private key of PEM or DER. No error repeats anything of it.
fn private_key(bytes: &[u8], from: &str) -> Result<PrivateKeyDer<'static>> {
    if is_der(bytes) {
        let key = PrivateKeyDer::try_from(bytes).map_err(|_| invalid(format!("no private key in {from}")))?;
        return Ok(key.clone_key());
    }
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(invalid(format!(
            "the private key in {from} is encrypted, which is not supported: decrypt it, for example with \
             `openssl pkey`"
        )));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if has(b"-----BEGIN CERTIFICATE-----") => {
            invalid(format!("no private key in {from}, which has a certificate"))
        }
        pem::Error::NoItemsFound => invalid(format!("no private key in {from}")),
        _ => invalid(format!("the private key in {from} is no valid PEM")),
    })
}

/// Returns whether the bytes begin as DER does, and PEM never.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x80..=u8::MAX, ..])
}

/// Splits values of DER that follow one another.
fn split_der(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut values = Vec::new();
    while let [_, first, rest @ ..] = bytes {
        // A length of 0x80 and more is the number of octets of the length.
        let octets = if *first < 0x80 { 0 } else { usize::from(first & 0x7f) };
        let length = match octets {
            0 => usize::from(*first),
            1..=4 => rest.get(..octets)?.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)),
            _ => return None,
        };
        let (value, following) = bytes.split_at_checked(2 + octets + length)?;
        values.push(value);
        bytes = following;
    }
    bytes.is_empty().then_some(values)
}

/// Decodes base64. `None` if it is not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    // The decoder of PEM does it, and this program has no other.
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let decoded = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(decoded.as_ref().to_vec()).filter(|bytes| !bytes.is_empty())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::tls_setup(format!("TLS: {}: {error}", shown(path)), error.kind())
}

fn invalid(what: String) -> Error {
    Error::tls_setup(format!("TLS: {what}"), io::ErrorKind::InvalidData)
}
