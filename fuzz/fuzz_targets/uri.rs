//! Parses random URIs, prints them and parses them again. The results are equal except for the password, which is not printed.
#![no_main]

use actix_pika_actors::uri::AmqpUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let uri: AmqpUri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let shown = uri.to_string();
    let mut again: AmqpUri = match shown.parse() {
        Ok(again) => again,
        Err(error) => panic!("{shown}: {error}"),
    };
    again.password = uri.password.clone();
    assert_eq!(again, uri, "{shown}");
});
