//! The URI scenarios (URI-01 to URI-12), as tables.

use std::{path::Path, time::Duration};

use actix_pika_actors::uri::{AmqpUri, Scheme, UriError, Verify};

fn uri(text: &str) -> AmqpUri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> UriError {
    match text.parse::<AmqpUri>() {
        Ok(uri) => panic!("{text} was parsed as {uri}"),
        Err(error) => error,
    }
}

// URI-01
#[test]
fn vhost_is_the_path_without_its_first_slash() {
    for (text, vhost) in [
        ("amqp://localhost", "/"),
        ("amqp://localhost/", "/"),
        ("amqp:///", "/"),
        ("amqp:////", "/"),
        ("amqp:///test", "test"),
        ("amqp:////test", "/test"),
        ("amqp://localhost/test", "test"),
        ("amqp://localhost//test", "/test"),
        ("amqp://localhost/%2Ftest", "/test"),
        ("amqps://localhost:5678//test", "/test"),
        ("amqps://localhost:5678/-test", "-test"),
        ("amqp://guest:guest@localhost/@test", "@test"),
        ("amqp://guest:guest@localhost//@test", "/@test"),
        ("amqp://localhost/%2F", "/"),
        ("amqp://localhost/%2F%2F", "//"),
        ("amqp://localhost/v%2fhost", "v/host"),
        ("amqp://localhost/a/b", "a/b"),
        ("amqp://localhost/.", "."),
        ("amqp://localhost/a/../b", "a/../b"),
        ("amqp://localhost/%2e%2e", ".."),
        ("amqp://localhost/caf%C3%A9", "caf\u{e9}"),
        ("amqp://localhost/?heartbeat=1", "/"),
        ("amqp://localhost?heartbeat=1", "/"),
        ("amqp://localhost/a=b&c", "a=b&c"),
    ] {
        assert_eq!(uri(text).vhost, vhost, "{text}");
    }
}

// URI-02
#[test]
fn missing_path_equals_an_empty_path() {
    assert_eq!(uri("amqp://localhost"), uri("amqp://localhost/"));
    assert_eq!(uri("amqp://localhost:5674"), uri("amqp://localhost:5674//"));
    assert_eq!(uri("amqp://localhost:8888").to_string(), "amqp://guest:***@localhost:8888/%2F");
    assert_eq!(uri("amqp://h//foo").to_string(), "amqp://guest:***@h/%2Ffoo");
}

// URI-06
#[test]
fn malformed_part_fails_with_its_own_error() {
    for (text, error) in [
        ("", UriError::Scheme),
        ("localhost", UriError::Scheme),
        ("amqp:localhost", UriError::Scheme),
        ("http://localhost/", UriError::Scheme),
        ("amqpx://localhost/", UriError::Scheme),
        ("://localhost/", UriError::Scheme),
        (" amqp://localhost", UriError::Whitespace),
        ("amqp://localhost ", UriError::Whitespace),
        ("amqp://local host/", UriError::Whitespace),
        ("amqp://localhost/te st", UriError::Whitespace),
        ("amqp://localhost/\n", UriError::Whitespace),
        ("amqp://local\thost/", UriError::Whitespace),
        ("amqp://localhost/\0", UriError::Whitespace),
        ("amqp://localhost/#x", UriError::Fragment),
        ("amqp://local%1", UriError::Host),
        ("amqp://local%xy/", UriError::Host),
        ("amqp://local%20host/", UriError::Host),
        ("amqp://local%2Fhost/", UriError::Host),
        ("amqp://%ff/", UriError::Host),
        ("amqp://localhost/%1", UriError::Vhost),
        ("amqp://localhost/%xy", UriError::Vhost),
        ("amqp://localhost/%", UriError::Vhost),
        ("amqp://localhost/%ff", UriError::Vhost),
        ("amqp://us%1r@localhost/", UriError::User),
        ("amqp://user:pass%xy@localhost/", UriError::Password),
        ("amqp://user:%ff@localhost/", UriError::Password),
        ("amqp://x[::1]/", UriError::Host),
        ("amqp://[::1]x/", UriError::Host),
        ("amqp://[::1/", UriError::Host),
        ("amqp://[]/", UriError::Host),
        ("amqp://[localhost]/", UriError::Host),
        ("amqp://[fe80::1%25]/", UriError::Host),
        ("amqp://[fe80::1%en0]/", UriError::Host),
        ("amqp://::1/", UriError::Port),
        ("amqp://localhost:0/", UriError::Port),
        ("amqp://localhost:65536/", UriError::Port),
        ("amqp://localhost:-1/", UriError::Port),
        ("amqp://localhost:+1/", UriError::Port),
        ("amqp://localhost:foo/", UriError::Port),
        ("amqp://localhost/??heartbeat=1", UriError::Query),
        ("amqp://localhost/?name=a?b", UriError::Query),
        ("amqp://localhost/?name=%1", UriError::Query),
        ("amqp://localhost/?%xy=1", UriError::Query),
        ("amqp://localhost/@test", UriError::Unescaped { character: '/' }),
        ("amqp://guest:guest@localhost/te@st", UriError::Unescaped { character: '/' }),
        ("amqp://guest:guest@localhost/?name=a@b", UriError::Query),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    assert_eq!(uri("aMQps://h").scheme, Scheme::Amqps);
}

// URI-07
#[test]
fn missing_parts_have_defaults() {
    let default = uri("amqp://");
    assert_eq!(default, AmqpUri::default());
    assert_eq!((default.host.as_str(), default.port), ("localhost", 5672));
    assert_eq!((default.user.as_str(), default.password.expose()), ("guest", "guest"));
    assert_eq!(uri("amqps://").port, 5671);

    for (text, user, password, host, port) in [
        ("amqp://user:pass@host:10000/vhost", "user", "pass", "host", 10000),
        ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", "usera", "apass", "hoast", 10000),
        ("amqp://:@/", "", "", "localhost", 5672),
        ("amqp://user@", "user", "guest", "localhost", 5672),
        ("amqp://user:@", "user", "", "localhost", 5672),
        ("amqp://user:pass@", "user", "pass", "localhost", 5672),
        ("amqp://host", "guest", "guest", "host", 5672),
        ("amqp://:10000", "guest", "guest", "localhost", 10000),
        ("amqp://host:", "guest", "guest", "host", 5672),
        ("amqp://user:p@ss@host", "user", "p@ss", "host", 5672),
        ("amqp://user:p:ss@host", "user", "p:ss", "host", 5672),
        ("amqp://user:a+b@host", "user", "a+b", "host", 5672),
        ("amqp://192.0.2.1:5673", "guest", "guest", "192.0.2.1", 5673),
        ("amqp://b%C3%BCcher.example", "guest", "guest", "xn--bcher-kva.example", 5672),
        ("amqp://rabbit_1.internal", "guest", "guest", "rabbit_1.internal", 5672),
    ] {
        let uri = uri(text);
        assert_eq!(
            (&*uri.user, uri.password.expose(), &*uri.host, uri.port),
            (user, password, host, port),
            "{text}"
        );
    }
    assert_eq!(uri("amqp://h:5672/v").to_string(), "amqp://guest:***@h/v");
    assert_eq!(uri("amqps://h:5672/v").to_string(), "amqps://guest:***@h:5672/v");
}

// URI-08
#[test]
fn ipv6_addresses_are_written_in_brackets() {
    for (text, host, port) in [
        ("amqp://[::1]", "::1", 5672),
        ("amqp://[::1]:1000", "::1", 1000),
        ("amqp://[::1]:", "::1", 5672),
        ("amqp://user:pass@[2001:db8::1]/v", "2001:db8::1", 5672),
        ("amqp://[fe80::1%25en0]:1000", "fe80::1%en0", 1000),
    ] {
        let parsed = uri(text);
        assert_eq!((&*parsed.host, parsed.port), (host, port), "{text}");
        assert_eq!(uri(&parsed.to_string()).host, host);
    }
}

// URI-03, URI-04, URI-05, URI-10
#[test]
fn parameters_have_types() {
    let parameters = uri(concat!(
        "amqp://h/?heartbeat=342&connection_timeout=442&channel_max=542&frame_max=8192&name=my%20app",
        "&auth_mechanism=PLAIN&auth_mechanism=AMQPLAIN&verify=verify_none&server_name_indication=sni.example",
        "&reconnect_interval=.5&fail_fast=YES&timeout=1.25",
    ))
    .parameters;
    assert_eq!(parameters.heartbeat, Some(342));
    assert_eq!(parameters.connection_timeout, Some(Duration::from_millis(442)));
    assert_eq!(parameters.channel_max, Some(542));
    assert_eq!(parameters.frame_max, Some(8192));
    assert_eq!(parameters.name.as_deref(), Some("my app"));
    assert_eq!(parameters.auth_mechanism, ["PLAIN", "AMQPLAIN"]);
    assert_eq!(parameters.verify, Some(Verify::None));
    assert_eq!(parameters.server_name_indication.as_deref(), Some("sni.example"));
    assert_eq!(parameters.reconnect_interval, Some(Duration::from_millis(500)));
    assert_eq!(parameters.fail_fast, Some(true));
    assert_eq!(parameters.timeout, Some(Duration::from_millis(1250)));
    assert_eq!(uri("amqp://h/").parameters, Default::default());
    assert_eq!(uri("amqp://h/?&heartbeat=0&").parameters.heartbeat, Some(0));

    assert_eq!(uri("amqp://h/?heartbeat=65535").parameters.heartbeat, Some(65_535));
    assert_eq!(uri("amqp://h/?timeout=0.111").parameters.timeout, Some(Duration::from_millis(111)));
    assert_eq!(uri("amqp://h/?timeout=1000").parameters.timeout, Some(Duration::from_secs(1000)));

    for word in ["yes", "YES", "yeS", "True", "TRUE", "1", "ENABLE", "enABled", "y", "Y"] {
        assert_eq!(uri(&format!("amqp://h/?fail_fast={word}")).parameters.fail_fast, Some(true));
    }
    for word in ["no", "No", "0", "false", "disabled", "n"] {
        assert_eq!(uri(&format!("amqp://h/?fail_fast={word}")).parameters.fail_fast, Some(false));
    }
}

// URI-03, URI-05, CON-24
#[test]
fn invalid_value_fails_with_the_name_of_its_parameter() {
    for (query, key) in [
        ("heartbeat=hello", "heartbeat"),
        ("heartbeat=-1", "heartbeat"),
        ("heartbeat=70000", "heartbeat"),
        ("heartbeat=None", "heartbeat"),
        ("heartbeat=", "heartbeat"),
        ("heartbeat", "heartbeat"),
        ("heartbeat=%2B1", "heartbeat"),
        ("heartbeat=65536", "heartbeat"),
        ("heartbeat=0.5", "heartbeat"),
        ("connection_timeout=0.5", "connection_timeout"),
        ("connection_timeout=-1", "connection_timeout"),
        ("channel_max=-1", "channel_max"),
        ("reconnect_interval=-1", "reconnect_interval"),
        ("happy_eyeballs_delay=-.1", "happy_eyeballs_delay"),
        ("channel_max=65536", "channel_max"),
        ("frame_max=100", "frame_max"),
        ("frame_max=9999999999999999", "frame_max"),
        ("fail_fast=nope", "fail_fast"),
        ("fail_fast=", "fail_fast"),
        ("timeout=inf", "timeout"),
        ("timeout=NaN", "timeout"),
        ("timeout=-1", "timeout"),
        ("timeout=1e3", "timeout"),
        ("timeout=.", "timeout"),
        ("timeout=99999999999999999999999999", "timeout"),
        ("verify=maybe", "verify"),
        ("certfile=", "certfile"),
        ("auth_mechanism=", "auth_mechanism"),
    ] {
        match refused(&format!("amqp://h/?{query}")) {
            UriError::InvalidParameter { key: named, .. } => assert_eq!(named, key, "{query}"),
            error => panic!("{query}: {error}"),
        }
    }
    let twice = refused("amqp://h/?heartbeat=1&heartbeat=2");
    assert_eq!(twice, UriError::RepeatedParameter { key: "heartbeat" });
}

// URI-10, in the form of this client
#[test]
fn unknown_parameter_fails_with_its_name() {
    let error = refused("amqp://h/?heartbaet=10");
    assert_eq!(error, UriError::UnknownParameter { key: "heartbaet".into() });
    assert!(error.to_string().contains("heartbaet"));
}

// URI-09
#[test]
fn displayed_uri_parses_to_the_same_uri() {
    let first = uri(concat!(
        "amqps://h/v?cacertfile=%2Fetc%2F%C3%A9t%C3%A9%20x.pem&certfile=/c%26keyfile%3Devil&keyfile=/k%3F%23.pem",
        "&name=50%25&auth_mechanism=PLAIN&timeout=0.1",
    ));
    assert_eq!(first.parameters.cacertfile.as_deref(), Some(Path::new("/etc/\u{e9}t\u{e9} x.pem")));
    assert_eq!(first.parameters.certfile.as_deref(), Some(Path::new("/c&keyfile=evil")));
    assert_eq!(first.parameters.keyfile.as_deref(), Some(Path::new("/k?#.pem")));
    let mut again = uri(&first.to_string());
    again.password = first.password.clone();
    assert_eq!(again, first);
}

// URI-06, URI-12
#[test]
fn an_unescaped_character_of_a_password_is_refused_with_its_escape() {
    for (text, escape) in [
        ("amqp://app:12/hunter2@broker/v", "%2F"),
        ("amqp://app:12/hunter2@broker", "%2F"),
        ("amqp://app:hunter2/@broker/v", "%2F"),
        ("amqp://app:/hunter2@broker/v", "%2F"),
        ("amqp://ap/p:hunter2@broker/v", "%2F"),
        ("amqp://app:a@b/hunter2@broker/v", "%2F"),
        ("amqp://app:a@b/@hunter2/x@broker/v", "%2F"),
        ("amqp://app:12/hunter2?@broker/v", "%2F"),
        ("amqp://app:12?hunter2@broker/v", "%3F"),
        ("amqp://app:12?hunter2=1&heartbeat=1@broker/v", "%3F"),
        ("amqp://app:hunter2?@broker/v", "%3F"),
        ("amqp://app:a@b?hunter2@broker/v", "%3F"),
        ("amqp://app:12#hunter2@broker/v", "%23"),
        ("amqp://app:%hunter2@broker/v", "%25"),
        ("amqp://app:hunter2%@broker/v", "%25"),
        ("amqp://a%pp:hunter2@broker/v", "%25"),
    ] {
        let error = refused(text);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(escape) && !shown.contains("hunter2"), "{text}: {shown}");
    }
    let escaped = uri("amqp://app:12%2Fhunter2%3F%23%25%40@broker/v%40");
    assert_eq!(
        (escaped.password.expose(), &*escaped.host, &*escaped.vhost),
        ("12/hunter2?#%@", "broker", "v@")
    );
}

// URI-12
#[test]
fn the_password_is_never_shown() {
    let shown = uri("amqp://alice:hunter2@h/");
    assert_eq!(shown.password.expose(), "hunter2");
    assert!(!format!("{shown} {shown:?} {shown:#?}").contains("hunter2"));

    for text in [
        "amqp://alice:hunter2%1@h/",
        "amqp://alice:hunter2@h:x/",
        "amqp://alice:hunter2@h/%1",
        "amqp://alice:hunter2@h/?unknown=1",
        "amqp://alice:hunter2@[h/",
        "amqp://alice:p/hunter2@h/",
        "amqp://alice:1/hunter2@h/%1",
        "amqp://alice:1?hunter2@h/",
        "amqp://alice:1?hunter2=1&x=2@h/",
        "amqp://alice:#hunter2@h/",
        "amqp://alice: hunter2@h/",
        "alice:hunter2@h",
        "hunter2://h",
        "amqp://h:hunter2",
        "amqp://h/?heartbeat=hunter2",
    ] {
        let error = refused(text);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
    }
}
