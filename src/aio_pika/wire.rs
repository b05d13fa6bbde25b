//! What aio-pika's JsonRPC writes: argument objects, results and errors as JSON. The [module](super#on-the-wire)
//! describes it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Error, Result, codec::GzipJson, message::Content, rpc::RemoteError};

/// The values of the property `type`.
pub(super) const CALL: &str = "call";
pub(super) const RESULT: &str = "result";
pub(super) const ERROR: &str = "error";

/// The header with the name of the reply queue, by which the exchange of dead letters finds it.
pub(super) const FROM: &str = "From";

/// How bodies are written. Both are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Json,
    Gzip,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Gzip => "application/json;compression=gzip",
        }
    }

    fn write(self, json: Vec<u8>) -> Result<Bytes> {
        match self {
            Self::Json => Ok(json.into()),
            Self::Gzip => GzipJson::compress(&json),
        }
    }
}

/// Encodes the arguments of a call: an object with their names. Nothing, such as `()`, is an empty object.
pub(super) fn arguments(format: Format, value: &impl Serialize) -> Result<Bytes> {
    let json = to_json(value)?;
    match json.first() {
        Some(b'{') => format.write(json),
        _ if json == b"null" => format.write(b"{}".to_vec()),
        _ => Err(Error::codec("the arguments of a call have names: an object, or nothing")),
    }
}

/// Decodes the arguments of a call.
pub(super) fn read_arguments<T: DeserializeOwned>(content: &Content) -> Result<T> {
    let body = plain(content)?;
    serde_json::from_slice(&body).or_else(|error| match serde_json::from_slice(&body) {
        // `()` and unit structs have no form as an object.
        Ok(Value::Object(object)) if object.is_empty() => {
            T::deserialize(Value::Null).map_err(|_| wrong(content, &error))
        }
        _ => Err(wrong(content, &error)),
    })
}

/// Encodes a result.
pub(super) fn result(format: Format, value: &impl Serialize) -> Result<Bytes> {
    format.write(to_json(value)?)
}

/// Decodes a result.
pub(super) fn read_result<T: DeserializeOwned>(content: &Content) -> Result<T> {
    serde_json::from_slice(&plain(content)?).map_err(|error| wrong(content, &error))
}

/// Encodes an error, in the form of an exception: its class, its text, and the arguments that it was made of.
pub(super) fn error(format: Format, error: &RemoteError) -> Result<Bytes> {
    let args = match error.data::<Value>() {
        Some(Ok(Value::Array(args))) => Value::Array(args),
        Some(Ok(other)) => json!([other]),
        _ => json!([error.text()]),
    };
    format.write(to_json(&json!({
        "error": { "type": error.code(), "message": error.text(), "args": args },
    }))?)
}

/// Decodes an error. What has another form is kept as it is.
pub(super) fn read_error(content: &Content) -> Result<RemoteError> {
    let body: Value = read_result(content)?;
    let exception = body.get("error").unwrap_or(&Value::Null);
    let text = |key: &str| exception.get(key).and_then(Value::as_str);
    Ok(match (text("type"), text("message")) {
        (Some(class), message) => {
            let error = RemoteError::new(class, message.unwrap_or_default());
            match exception.get("args") {
                Some(args) => error.with(args),
                None => error,
            }
        }
        _ => RemoteError::new("unknown", body.to_string()),
    })
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::codec(format!("the value has no JSON form: {error}")))
}

fn plain(content: &Content) -> Result<Cow<'_, [u8]>> {
    GzipJson::new().decompress(content.body())
}

/// Names the content type, because aio-pika's `RPC` and `JsonRPC` use the same queues: the first one writes pickle.
fn wrong(content: &Content, error: &serde_json::Error) -> Error {
    let properties = content.properties().ok();
    let content_type = properties.and_then(|properties| properties.content_type()).unwrap_or("none");
    Error::codec(format!("the body is wrong: {error} (content type {content_type:?})"))
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{Publishing, testing::TestContent};

    fn content(body: impl Into<Bytes>) -> Content {
        TestContent::new(Publishing::new(body.into()).content_type("application/json")).build()
    }

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Add {
        a: i64,
        b: i64,
    }

    #[test]
    fn arguments_are_an_object() {
        let add = Add { a: 1, b: -2 };
        for format in [Format::Json, Format::Gzip] {
            let body = arguments(format, &add).unwrap();
            assert_eq!(read_arguments::<Add>(&content(body)).unwrap(), add);
        }
        assert_eq!(arguments(Format::Json, &add).unwrap(), r#"{"a":1,"b":-2}"#);
        assert_eq!(arguments(Format::Json, &()).unwrap(), "{}");
        for wrong in [json!(7), json!([1]), json!("{}")] {
            assert!(arguments(Format::Json, &wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_arguments_are_those_of_a_unit() {
        read_arguments::<()>(&content("{}")).unwrap();
        read_arguments::<()>(&content("null")).unwrap();
        assert!(read_arguments::<()>(&content(r#"{"a":1}"#)).is_err());
        let error = read_arguments::<Add>(&content("{}")).unwrap_err().to_string();
        assert!(error.contains("missing field `a`") && error.contains("application/json"), "{error}");
    }

    #[test]
    fn errors_have_the_form_of_exceptions() {
        let sent = |error: &RemoteError| {
            let body = super::error(Format::Json, error).unwrap();
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let plain = RemoteError::new("ValueError", "no");
        assert_eq!(sent(&plain), json!({"error": {"type": "ValueError", "message": "no", "args": ["no"]}}));
        assert_eq!(sent(&plain.clone().with([1, 2]))["error"]["args"], json!([1, 2]));
        assert_eq!(sent(&plain.with("x"))["error"]["args"], json!(["x"]));

        let python = r#"{"error":{"type":"KeyError","message":"KeyError('k')","args":["k"]}}"#;
        let read = read_error(&content(python)).unwrap();
        assert_eq!((read.code(), read.text()), ("KeyError", "KeyError('k')"));
        assert_eq!(read.data::<Vec<String>>().unwrap().unwrap(), ["k"]);
        let other = read_error(&content(r#"{"why":1}"#)).unwrap();
        assert_eq!((other.code(), other.text()), ("unknown", r#"{"why":1}"#));
    }

    #[test]
    fn a_pickle_is_named_as_such() {
        let pickle = Publishing::new(&b"\x80\x04N."[..]).content_type("application/python-pickle");
        let error = read_result::<Value>(&TestContent::new(pickle).build()).unwrap_err();
        assert!(error.to_string().contains("application/python-pickle"), "{error}");
    }
}
