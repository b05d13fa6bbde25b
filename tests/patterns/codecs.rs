//! Codecs: the content type is set and checked, and wrong bodies are errors.

use actix_pika::{
    ErrorKind, Publishing,
    codec::{Codec, Json, MessagePack, Raw},
    testing::TestContent,
};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[test]
fn json_and_messagepack_encode_what_they_decode() {
    let point = Point { x: 3, y: -4 };
    let codecs: [&dyn Codec<Point>; 2] = [&Json, &MessagePack];
    for codec in codecs {
        let content = TestContent::new(codec.encode(&point).unwrap()).build();
        assert_eq!(codec.decode(&content).unwrap(), point);
        let wrong = codec.decode(&TestContent::new("{").build()).unwrap_err();
        assert_eq!((wrong.kind(), wrong.is_retryable()), (ErrorKind::Codec, false));
    }
}

#[test]
fn content_types_are_compared_without_case_and_parameters() {
    let json: &dyn Codec<Point> = &Json;
    assert!(json.accepts("Application/JSON; charset=utf-8"));
    assert!(!json.accepts("application/jsonp"));
    let messagepack: &dyn Codec<Point> = &MessagePack;
    assert!(messagepack.accepts("application/x-msgpack"));
    assert!(!messagepack.accepts("application/json"));
}

#[test]
fn raw_bodies_are_taken_as_they_are() {
    let content = TestContent::new(Publishing::new(&b"\xff\x00"[..]).content_type("image/png")).build();
    assert_eq!(Codec::<Vec<u8>>::decode(&Raw, &content).unwrap(), b"\xff\x00");
    let text = Codec::<String>::decode(&Raw, &content).unwrap_err();
    assert_eq!(text.kind(), ErrorKind::Codec);
}
