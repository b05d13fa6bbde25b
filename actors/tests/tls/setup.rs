//! Certificates and keys that can be used, and those that cannot.

use std::io;

use actix_pika_actors::{Error, TlsFailure, TlsOptions};

use crate::{
    certificates::{Authority, Folder},
    common::Client,
    handshake::bench,
    server::{Server, ServerSettings, trusting},
};

/// Connects to nothing: the options fail before.
async fn setup_error(tls: TlsOptions) -> Error {
    let error = Client::launch(|options| options.tls = Some(tls)).closed().await.expect("a cause");
    assert_eq!(error.tls_failure(), Some(TlsFailure::Setup), "{error}");
    error
}

/// TLS-08
#[actix::test]
async fn what_cannot_be_read_is_named_with_its_path() {
    let (authority, folder) = (Authority::new(), Folder::new("unreadable"));
    let identity = authority.client("app");
    let certificate = folder.write("client.pem", &identity.certificate);
    let key = folder.write("key.pem", &identity.key);
    let other_key = folder.write("other.pem", &authority.client("other").key);
    let text = folder.write("text.pem", "no PEM here\n");
    let cut = folder.write("cut.pem", &identity.certificate[..200]);
    let encrypted = folder.write("encrypted.pem", identity.key.replace("PRIVATE", "ENCRYPTED PRIVATE"));
    let legacy = folder.write(
        "legacy.pem",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
         -----END RSA PRIVATE KEY-----\n",
    );
    let empty = Folder::new("empty");
    let missing = folder.path().join("missing.pem");
    let new = TlsOptions::new;
    for (tls, kind, text) in [
        (new().ca_file(&missing), io::ErrorKind::NotFound, "missing.pem"),
        (new().ca_folder(&missing), io::ErrorKind::NotFound, "missing.pem"),
        (new().client_certificate(&missing, &key), io::ErrorKind::NotFound, "missing.pem"),
        (new().client_certificate(&certificate, &missing), io::ErrorKind::NotFound, "missing.pem"),
        (new().ca_file(&text), io::ErrorKind::InvalidData, "no certificate in"),
        (new().ca_file(&key), io::ErrorKind::InvalidData, "key.pem"),
        (new().ca_file(&cut), io::ErrorKind::InvalidData, "cut.pem is no valid PEM"),
        (new().ca_folder(empty.path()), io::ErrorKind::InvalidData, "no certificate of an authority in"),
        (new().ca_bytes(""), io::ErrorKind::InvalidData, "bytes of the authorities"),
        (new().ca_bytes([0x30, 0x82, 0xff]), io::ErrorKind::InvalidData, "no valid DER"),
        (new().ca_bytes([0x30, 0x82, 0, 0]), io::ErrorKind::InvalidData, "an authority of the bytes"),
        (
            new().client_certificate(&certificate, &certificate),
            io::ErrorKind::InvalidData,
            "which has a certificate",
        ),
        (new().client_certificate(&certificate, &text), io::ErrorKind::InvalidData, "no private key in"),
        (new().client_certificate(&certificate, &encrypted), io::ErrorKind::InvalidData, "is encrypted"),
        (new().client_certificate(&certificate, &legacy), io::ErrorKind::InvalidData, "is encrypted"),
        (new().client_certificate(&certificate, &other_key), io::ErrorKind::InvalidData, "and its key"),
    ] {
        let error = setup_error(tls).await;
        assert_eq!(error.io_kind(), Some(kind), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(!error.is_retryable());
    }
}

/// TLS-08: PKCS#8, PKCS#1 and SEC1, in PEM and in DER.
#[actix::test]
async fn keys_of_every_format_are_used() {
    let (authority, folder) = (Authority::new(), Folder::new("keys"));
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl").args(args).output();
        output.ok().filter(|output| output.status.success())
    };
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut keys = vec![("PKCS#8", authority.client("app"))];
    if openssl(&["version"]).is_some() {
        for (format, args) in [
            ("PKCS#1", &["genrsa", "-traditional", "-out"][..]),
            ("SEC1", &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]),
        ] {
            let (key, certificate) = (path("key.pem"), path("certificate.pem"));
            let made = openssl(&[args, &[&key]].concat());
            made.unwrap_or_else(|| panic!("openssl makes a key in {format}"));
            openssl(&[
                "req",
                "-x509",
                "-key",
                &key,
                "-subj",
                "/CN=app",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-out",
                &certificate,
            ])
            .unwrap();
            let read = |path| std::fs::read_to_string(path).unwrap();
            let identity = crate::certificates::Identity { certificate: read(certificate), key: read(key) };
            keys.push((format, identity));
        }
    }
    for (format, identity) in keys {
        let mut settings = ServerSettings::new(authority.server(&["localhost"]));
        settings.clients = Some(identity.certificate.clone());
        let server = Server::listen_with(&settings).await;
        let certificate = folder.write("client.pem", format!("{}{}", identity.certificate, identity.key));
        let client =
            server.dial("localhost", trusting(&authority).client_certificate(&certificate, &certificate));
        if format == "PKCS#8" {
            // Signed by the authority, so the server does not know it.
            assert!(server.accept().await.is_err());
            assert_eq!(
                client.closed().await.unwrap().tls_failure(),
                Some(TlsFailure::ClientCertificateRefused)
            );
        } else {
            bench(client, server.accept().await.unwrap()).await.assert_works(1).await;
        }
    }
}

/// A folder holds anything. A file with several authorities counts fully, and so does a file and what is in bytes.
#[actix::test]
async fn authorities_come_from_files_folders_and_bytes() {
    let folder = Folder::new("authorities");
    let authorities: Vec<Authority> = (0..6).map(|_| Authority::new()).collect();
    folder.write("readme.txt", "nothing");
    folder.write("3f1a.0", authorities[0].pem());
    std::fs::create_dir_all(folder.path().join("subfolder")).unwrap();
    let files = Folder::new("authority-files");
    let several =
        files.write("several.pem", format!("# ours\n{}\n{}", authorities[1].pem(), authorities[2].pem()));
    let tls = TlsOptions::new()
        .ca_folder(folder.path())
        .ca_file(several)
        .ca_bytes(authorities[3].pem())
        .ca_bytes([authorities[4].der(), authorities[5].der()].concat());
    for authority in &authorities {
        let server = Server::listen(authority.server(&["localhost"])).await;
        let client = server.dial("localhost", tls.clone());
        bench(client, server.accept().await.unwrap()).await.assert_works(1).await;
    }
}

/// URI-09: what a URI names is used.
#[actix::test]
async fn parameters_of_a_uri_say_whom_to_trust() {
    let (authority, folder) = (Authority::new(), Folder::new("uri"));
    let ca = folder.write("ca & more.pem", authority.pem());
    let identity = authority.client("app");
    let both = folder.write("both.pem", format!("{}{}", identity.certificate, identity.key));
    let escape = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let (ca, both) = (escape(ca.to_str().unwrap()), escape(both.to_str().unwrap()));
    let capath = escape(folder.path().to_str().unwrap());
    let cadata = |bytes: &[u8]| escape(&base64(bytes));
    let mut settings = ServerSettings::new(authority.server(&["rabbit.example"]));
    settings.clients = Some(authority.pem());
    let server = Server::listen_with(&settings).await;
    for trust in [
        format!("cacertfile={ca}"),
        format!("cafile={ca}&cacertfile={ca}&verify=verify_peer&no_verify_ssl=0"),
        format!("capath={capath}"),
        format!("cadata={}", cadata(&authority.der())),
        format!("cadata={}", cadata(authority.pem().as_bytes())),
        "verify=verify_none".into(),
        "no_verify_ssl=1&cafile=/not/read.pem".into(),
    ] {
        let uri = format!(
            "amqps://localhost:{}?certfile={both}&server_name_indication=rabbit.example&{trust}",
            server.port()
        );
        let options = actix_pika_actors::ConnectionOptions::from_uris([&uri]).unwrap();
        let client = Client::launch(|set| *set = options);
        let stream = server.accept().await.unwrap_or_else(|error| panic!("{trust}: {error}"));
        bench(client, stream).await.assert_works(1).await;
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            text.push(if at > chunk.len() { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    text
}
