//! Certificates from outside.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::identity::provider;
use crate::server::{builder::Builder, handle::Broker};

type Issuer = CertifiedIssuer<'static, KeyPair>;
/// A certificate and its key, in PEM.
type Pem = (String, String);

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // So that two of them have two names.
    params.distinguished_name.push(DnType::CommonName, format!("{:016x}", fastrand::u64(..)));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certify(authority: &Issuer, usage: ExtendedKeyUsagePurpose) -> Pem {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

fn server(authority: &Issuer) -> Pem {
    certify(authority, ExtendedKeyUsagePurpose::ServerAuth)
}

fn client(authority: &Issuer) -> Pem {
    certify(authority, ExtendedKeyUsagePurpose::ClientAuth)
}

/// Shakes hands as `localhost`, sends the header of AMQP, and returns the first octets of the answer.
fn greet(broker: &Broker, trusted: &str, shown: Option<&Pem>) -> io::Result<[u8; 3]> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    let socket = TcpStream::connect(("127.0.0.1", broker.tls_port()))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A method on channel 0: `connection.start`.
const START: [u8; 3] = [1, 0, 0];

fn refusal(builder: Builder) -> String {
    builder.start().unwrap_err().to_string()
}

#[test]
fn a_broker_shows_the_certificate_that_it_was_given() {
    let (ours, other) = (authority(), authority());
    let (chain, key) = server(&ours);
    let broker = Broker::builder().tls_identity(chain, key).start().unwrap();
    assert_eq!(greet(&broker, &ours.pem(), None).unwrap(), START);
    assert!(greet(&broker, &other.pem(), None).unwrap_err().to_string().contains("UnknownIssuer"));
}

#[test]
fn clients_show_a_certificate_of_the_authority_that_was_given() {
    let (ours, other) = (authority(), authority());
    // The server's own certificate is made on the spot: the two have nothing to do with each other.
    let broker = Broker::builder().tls_client_authority(ours.pem()).start().unwrap();
    let trusted = broker.ca_pem();
    assert_eq!(greet(&broker, &trusted, Some(&client(&ours))).unwrap(), START);
    assert!(greet(&broker, &trusted, Some(&client(&other))).is_err());
    let without = greet(&broker, &trusted, None).unwrap_err().to_string();
    assert!(without.contains("CertificateRequired"), "{without}");
}

#[test]
fn several_authorities_may_stand_in_one_text() {
    let (one, two) = (authority(), authority());
    let broker = Broker::builder().tls_client_authority(one.pem() + &two.pem()).start().unwrap();
    for authority in [one, two] {
        assert_eq!(greet(&broker, &broker.ca_pem(), Some(&client(&authority))).unwrap(), START);
    }
}

#[test]
fn what_cannot_be_used_fails_the_start() {
    let ours = authority();
    let ((chain, key), (_, other_key)) = (server(&ours), server(&ours));
    let of = |chain: &str, key: &str| Broker::builder().tls_identity(chain, key);
    let identity = "cannot use what Builder::tls_identity was given: ";
    assert_eq!(refusal(of("", &key)), format!("{identity}no certificate in PEM"));
    assert!(refusal(of(&chain, "")).starts_with(identity));
    assert!(refusal(of(&chain, &other_key)).starts_with("cannot use the certificates for TLS: "));
    assert_eq!(
        refusal(Broker::builder().tls_client_authority("")),
        "cannot use what Builder::tls_client_authority was given: no certificate in PEM"
    );
    assert_eq!(
        refusal(of(&chain, &key).tls_client_certificates()),
        "a broker with Builder::tls_identity makes no certificates for clients: tls_client_authority says whose it takes"
    );
}

/// They would be ignored.
#[test]
fn settings_of_certificates_do_not_go_with_a_configuration() {
    let (chain, key) = server(&authority());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
    let config = Arc::new(config.unwrap());
    let of = || Broker::builder().tls_config(Arc::clone(&config));
    assert!(of().start().is_ok());
    for builder in [
        of().tls_client_certificates(),
        of().tls_client_authority(authority().pem()),
        of().tls_identity(chain.clone(), key.clone()),
    ] {
        assert!(
            refusal(builder).starts_with("Builder::tls_config says itself which certificates there are: ")
        );
    }
}

#[test]
fn a_key_is_not_shown() {
    let (chain, key) = server(&authority());
    let shown = format!("{:?}", Broker::builder().tls_identity(chain, key));
    assert!(shown.contains("key: ..."), "{shown}");
}

#[test]
#[should_panic = "has made no certificate for clients"]
fn there_is_no_certificate_that_would_not_be_taken() {
    let broker = Broker::builder().tls_client_authority(authority().pem()).start().unwrap();
    let _ = broker.client_certificate();
}
