//! A URI that was read is written and read again as it was, but for the password.
#![no_main]

use actix_pika_actors::uri::AmqpUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let uri: AmqpUri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => return drop(error.to_string()),
    };
    let shown = uri.to_string();
    let mut again: AmqpUri = match shown.parse() {
        Ok(again) => again,
        Err(error) => panic!("{shown}: {error}"),
    };
    again.password = uri.password.clone();
    assert_eq!(again, uri, "{shown}");
});
