//! Passwords are never shown: not by `Debug` or `Display`, not by an error, not by a line of the log at any level.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
mod support;

use std::sync::{Mutex, OnceLock};

use actix_pika::{Connector, ErrorKind, connect, options::Secret};
use futures_util::StreamExt;
use support::{
    broker::{Vhost, base64, encode},
    within,
};

const RIGHT: &str = "Zq7-hunter2!open/sesame";
const WRONG: &str = "Xk9-hunter3?open/pepper";

/// Every line of every crate in this process, from `trace` on.
struct Tape(Mutex<Vec<String>>);

impl log::Log for Tape {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

fn tape() -> &'static Tape {
    static TAPE: OnceLock<&'static Tape> = OnceLock::new();
    TAPE.get_or_init(|| {
        let tape = Box::leak(Box::new(Tape(Mutex::default())));
        log::set_logger(tape).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        tape
    })
}

/// The forms in which bytes are printed: as they are, escaped, base64, hex, decimal.
fn forms(user: &str, password: &str) -> Vec<String> {
    let mut forms = vec![password.to_owned(), encode(password), password.escape_debug().to_string()];
    let response = format!("\0{user}\0{password}");
    forms.push(base64(response.as_bytes()));
    for text in [password, "hunter"] {
        // In the middle of something longer, base64 begins at one of three offsets.
        for skipped in 0..3 {
            let coded = base64(text.get(skipped..).unwrap().as_bytes());
            forms.push(coded[..coded.len() - 4].to_owned());
        }
        for separator in ["", " ", ":", ", "] {
            let join = |parts: Vec<String>| parts.join(separator);
            forms.push(join(text.bytes().map(|byte| format!("{byte:02x}")).collect()));
            forms.push(join(text.bytes().map(|byte| format!("{byte:02X}")).collect()));
            forms.push(join(text.bytes().map(|byte| format!("0x{byte:02x}")).collect()));
            if !separator.is_empty() {
                forms.push(join(text.bytes().map(|byte| byte.to_string()).collect()));
            }
        }
    }
    forms.push("hunter".into());
    forms
}

fn assert_silent(what: &str, text: &str, user: &str) {
    for form in [RIGHT, WRONG].into_iter().flat_map(|password| forms(user, password)) {
        assert!(!text.contains(&form), "{what} shows a password as {form}: {text}");
    }
}

/// URI-12: a whole session, and one that is refused, with everything that says something of itself.
#[actix::test]
async fn a_password_is_never_shown() {
    let tape = tape();
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user(RIGHT).await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let mut shown = Vec::new();

    let connector = Connector::new(&vhost.url_as(&user, RIGHT)).unwrap().name("secretive");
    shown.push(("Connector", format!("{connector:?} {connector:#?}")));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    shown.push(("Connection", format!("{connection:?} {:?} {:?}", connection.state(), connection.actor())));
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    channel.default_exchange().publish("work", "jobs").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    deliveries.next().await.unwrap().ack().unwrap();
    shown.push(("handles", format!("{channel:?} {queue:?} {deliveries:?} {:?}", channel.default_exchange())));
    let error = channel.declare_queue("amq.restricted").await.unwrap_err();
    shown.push(("Refused", format!("{error} {error:?}")));
    within("close", 10, connection.close()).await.unwrap();
    shown.push(("closed Connection", format!("{connection:?} {:?}", connection.state())));

    let error = within("a wrong password", 10, connect(vhost.url_as(&user, WRONG))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    shown.push(("Auth", format!("{error} {error:?} {error:#?}")));
    let nowhere = format!("amqp://{}:{}@127.0.0.1:1/", encode(&user), encode(RIGHT));
    let error = connect(nowhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    shown.push(("Io", format!("{error} {error:?}")));
    let secret = Secret::new(RIGHT);
    shown.push(("Secret", format!("{secret:?} {secret:#?}")));

    for (what, text) in shown {
        assert_silent(what, &text, &user);
    }
    let lines = tape.0.lock().unwrap().clone();
    let ours = lines.iter().filter(|line| line.contains("actix_pika")).count();
    assert!(ours > 3, "the tape does not run: {lines:?}");
    for line in &lines {
        assert_silent("the log", line, &user);
    }
}

/// URI-12: whatever is wrong with a URI, the error does not repeat what might be a password.
#[test]
fn errors_of_a_uri_do_not_repeat_it() {
    let uris = [
        "amqp://user:PASS@host:port/",
        "amqp://user:PASS@[::1/",
        "amqp://user:PASS%zz@host/",
        "amqp://user:PASS@host/%zz",
        "amqp://user:PASS@host/?heartbeat=PASS",
        "amqp://user:PASS@host/?heartbeat=1&heartbeat=PASS",
        "amqp://user:a?PASS@host/",
        "amqp://user:a#PASS@host/",
        "amqp://user:a/PASS@host/",
        "amqp://user:a PASS@host/",
        "http://user:PASS@host/",
        "amqps://user:PASS@host/",
        "user:PASS@host",
    ];
    for uri in uris {
        let uri = uri.replace("PASS", "hunter2");
        let error = Connector::new(&uri).expect_err(&uri);
        assert_eq!(error.kind(), ErrorKind::Uri, "{uri}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
