//! TLS at the project's own nodes: certificates, which are made once, and a listener.
//!
//! scripts/broker.sh starts nodes with the listener if the certificates are there. A node that was started before they
//! were made gets it while it runs.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use super::nodes::{self, Node};

/// The port of TLS, from that of plain TCP, as in scripts/broker.sh.
pub(super) const OFFSET: u16 = 1000;

/// The user in the client's certificate.
pub const CLIENT: &str = "client-of-tests";

/// Returns whether every test connects over TLS: `TEST_TLS=1`, with which `SSL_CERT_FILE` has to be the path of
/// [`ca_file`], so that the system trusts it.
pub(super) fn is_everywhere() -> bool {
    std::env::var("TEST_TLS").is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Returns the folder with the certificates, which are made unless they are there.
fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(make_folder);
    &FOLDER
}

fn make_folder() -> PathBuf {
    let folder = nodes::root().join(".broker/certificates");
    if !folder.join("ca.pem").exists() {
        let new = nodes::root().join(format!(".broker/certificates.{}", std::process::id()));
        std::fs::create_dir_all(&new).expect("a folder for certificates");
        make_certificates(&new);
        // Fails if another process was faster.
        if std::fs::rename(&new, &folder).is_err() {
            std::fs::remove_dir_all(&new).expect("a folder of this process");
        }
        assert!(folder.join("ca.pem").exists(), "{folder:?} has no certificates");
    }
    folder
}

fn make_certificates(folder: &Path) {
    let mut authority = CertificateParams::new([]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority of the tests of actix-pika");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"));
    let authority = authority.expect("a certificate");
    let write = |name: &str, pem: String| std::fs::write(folder.join(name), pem).expect("a file");
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let server = CertificateParams::new(names).expect("valid names");
    let mut client = CertificateParams::new([]).expect("no names");
    client.distinguished_name.push(DnType::CommonName, CLIENT);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    for (name, params) in [("server", server), ("client", client)] {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        write(&format!("{name}.pem"), certificate.pem());
        write(&format!("{name}-key.pem"), key.serialize_pem());
    }
    // Last, because its presence says that all are there.
    write("ca.pem", authority.pem());
}

/// Returns the certificate of the authority of the nodes.
pub fn ca_file() -> PathBuf {
    folder().join("ca.pem")
}

/// Returns the certificate and the key of the user [`CLIENT`].
pub fn client_files() -> [PathBuf; 2] {
    ["client.pem", "client-key.pem"].map(|name| folder().join(name))
}

/// What a listener wants of clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clients {
    MayHaveCertificate,
    /// Clients need a certificate, and can log in with it.
    NeedCertificate,
}

/// Starts a listener of a node unless it runs, and returns its port. Blocks.
pub(super) fn listen(node: Node, amqp_port: u16, clients: Clients) -> u16 {
    // One at a time in this process: tests that start together would rename each other's copies.
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, strict) = (folder(), clients == Clients::NeedCertificate);
    let port = amqp_port + OFFSET + u16::from(strict);
    let is_open = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    if is_open() {
        return port;
    }
    // A node in a chroot sees its own folder only.
    let copy = node.folder().join("tls");
    std::fs::create_dir_all(&copy).expect("a folder for certificates");
    for name in ["ca.pem", "server.pem", "server-key.pem"] {
        let present = std::fs::read(copy.join(name)).ok();
        if present != std::fs::read(folder.join(name)).ok() {
            // Renamed, because the node may read it for its other listener, and remembers what it has read.
            let part = copy.join(format!("{name}.{port}.{}", std::process::id()));
            std::fs::copy(folder.join(name), &part).expect("a certificate");
            std::fs::rename(part, copy.join(name)).expect("a certificate");
        }
    }
    let path = |name: &str| format!("{:?}", copy.join(name));
    let start = format!(
        "Options = [{{cacertfile, {}}}, {{certfile, {}}}, {{keyfile, {}}}, {{verify, verify_peer}}, \
         {{fail_if_no_peer_cert, {strict}}}], \
         {strict} andalso application:set_env(rabbit, ssl_options, Options), \
         rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}}}, Options, 10).",
        path("ca.pem"),
        path("server.pem"),
        path("server-key.pem")
    );
    let started = node.blocking_rabbitmqctl(&["-q", "eval", &start]);
    let until = Instant::now() + Duration::from_secs(30);
    // Another process may have started it meanwhile.
    while !is_open() {
        assert!(Instant::now() < until, "no listener at port {port}: {started:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    port
}

/// Returns the plain URL of a URL of a node, for what cannot use TLS.
pub fn without_tls(url: &str) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    if url.scheme() == "amqps" {
        let port = url.port().expect("a port") - OFFSET;
        url.set_scheme("amqp").and_then(|()| url.set_port(Some(port))).expect("a plain URL");
    }
    url.to_string()
}
