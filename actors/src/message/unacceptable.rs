//! Properties that RabbitMQ accepts from nobody, in whatever version and configuration. Each publish with one
//! would close its channel, so that they are refused here.

use crate::{
    error::{Error, Result},
    wire::{Properties, Value},
};

/// The longest expiration: ten years.
const MAX_EXPIRATION: u64 = 315_360_000_000;

/// Refuses what the broker would answer with 406.
pub(super) fn check_acceptable(properties: &Properties) -> Result<()> {
    if let Some(value) = properties.raw_expiration().filter(|value| !is_expiration(value)) {
        let value = value.escape_ascii();
        return Err(Error::refused_here(format!(
            "not sent, the broker refuses the expiration \"{value}\" (406): it is not a number of milliseconds, or over {MAX_EXPIRATION}"
        )));
    }
    if let Some(key) = copies_of_other_type(properties) {
        return Err(Error::refused_here(format!(
            "not sent, the broker refuses the header {key} (406): it is not an array"
        )));
    }
    Ok(())
}

/// Returns whether the broker takes this for a number of milliseconds: digits, which may have a sign.
pub(crate) fn is_expiration(value: &[u8]) -> bool {
    let (is_negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let number = digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => Some(number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
        _ => None,
    });
    let most = if is_negative { 0 } else { MAX_EXPIRATION };
    !digits.is_empty() && number.is_some_and(|number| number <= most)
}

/// Returns the header for further routing keys that is not an array, if there is one.
pub(crate) fn copies_of_other_type(properties: &Properties) -> Option<&'static str> {
    properties.headers()?.iter().find_map(|(key, value)| {
        let key = match key.as_bytes() {
            b"CC" => "CC",
            b"BCC" => "BCC",
            _ => return None,
        };
        (!matches!(value, Value::Array(_))).then_some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_expiration_is_a_number_of_milliseconds() {
        for value in ["0", "5", "007", "+5", "-0", "315360000000"] {
            assert!(is_expiration(value.as_bytes()), "{value}");
        }
        let long = "9".repeat(255);
        for value in ["", "+", "-", "a", " 5", "5 ", "1.5", "-1", "+-1", "0x5", "315360000001", &long] {
            assert!(!is_expiration(value.as_bytes()), "{value}");
        }
        assert!(!is_expiration(&[b'5', 0xff]));
    }

    #[test]
    fn further_routing_keys_are_arrays() {
        let with = |key: &str, value: Value| Properties::new().with_header("x", 1).with_header(key, value);
        assert!(check_acceptable(&with("CC", Value::Array(vec!["a".into(), 1.into()]))).is_ok());
        assert!(check_acceptable(&with("cc", "a".into())).is_ok());
        for (key, value) in [("CC", "a".into()), ("BCC", 1.into()), ("CC", Value::Void)] {
            let error = check_acceptable(&with(key, value)).unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Refused, false), "{error}");
            assert!(error.to_string().contains(key) && !error.may_have_arrived(), "{error}");
        }
        assert!(check_acceptable(&Properties::new()).is_ok());
    }
}
