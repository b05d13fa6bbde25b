//! AMQP values as RabbitMQ compares and prints them: as terms of Erlang.
//!
//! A value of a table has a type and a term: an integer of any width is the same term, a long string and a byte array
//! are the same binary. What is nested in a table or an array keeps its type.

use std::fmt::Write;

use actix_pika_actors::Value;

/// Returns the name of the type, as it stands in reply texts.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Boolean(_) => "bool",
        Value::ShortShortInt(_) => "byte",
        Value::ShortShortUint(_) => "unsignedbyte",
        Value::ShortInt(_) => "short",
        Value::ShortUint(_) => "unsignedshort",
        Value::LongInt(_) => "signedint",
        Value::LongUint(_) => "unsignedint",
        Value::LongLongInt(_) => "long",
        Value::Float(_) => "float",
        Value::Double(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::LongString(_) => "longstr",
        Value::Array(_) => "array",
        Value::Timestamp(_) => "timestamp",
        Value::Table(_) => "table",
        Value::ByteArray(_) => "binary",
        // `Value` may get more types.
        _ => "void",
    }
}

/// The term of a value, without its type.
#[derive(Clone, Copy, Debug)]
enum Term<'a> {
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Binary(&'a [u8]),
    Decimal(u8, i32),
    /// An empty table or an empty array.
    Empty,
    Nested(&'a Value),
    Undefined,
}

impl<'a> From<&'a Value> for Term<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Float(value) => Self::Float((*value).into()),
            Value::Double(value) => Self::Float(*value),
            Value::Decimal { scale, value } => Self::Decimal(*scale, *value),
            Value::LongString(text) => Self::Binary(text.as_bytes()),
            Value::ByteArray(bytes) => Self::Binary(bytes),
            Value::Timestamp(seconds) => Self::Integer((*seconds).into()),
            Value::Array(values) if values.is_empty() => Self::Empty,
            Value::Table(table) if table.is_empty() => Self::Empty,
            Value::Array(_) | Value::Table(_) => Self::Nested(value),
            integer => integer.as_i64().map_or(Self::Undefined, |value| Self::Integer(value.into())),
        }
    }
}

/// Whether an integer may equal a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// 1 is 1.0.
    Loose,
    /// 1 is not 1.0.
    Strict,
}

/// Returns whether two values are the same term, whatever their types.
pub(crate) fn same_term(left: &Value, right: &Value, numbers: Numbers) -> bool {
    match (Term::from(left), Term::from(right)) {
        (Term::Integer(left), Term::Integer(right)) => left == right,
        (Term::Float(left), Term::Float(right)) => left == right,
        (Term::Integer(integer), Term::Float(float)) | (Term::Float(float), Term::Integer(integer)) => {
            numbers == Numbers::Loose && equals_float(integer, float)
        }
        (Term::Boolean(left), Term::Boolean(right)) => left == right,
        (Term::Binary(left), Term::Binary(right)) => left == right,
        (Term::Decimal(scale, value), Term::Decimal(other_scale, other)) => {
            (scale, value) == (other_scale, other)
        }
        (Term::Empty, Term::Empty) | (Term::Undefined, Term::Undefined) => true,
        (Term::Nested(Value::Array(left)), Term::Nested(Value::Array(right))) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same_type_and_term(left, right, numbers))
        }
        (Term::Nested(Value::Table(left)), Term::Nested(Value::Table(right))) => {
            left.len() == right.len()
                && left.iter().zip(right.iter()).all(|((key, left), (other, right))| {
                    key == other && same_type_and_term(left, right, numbers)
                })
        }
        _ => false,
    }
}

fn same_type_and_term(left: &Value, right: &Value, numbers: Numbers) -> bool {
    type_name(left) == type_name(right) && same_term(left, right, numbers)
}

/// Compares exactly: most large integers are no floats.
fn equals_float(integer: i128, float: f64) -> bool {
    float.fract() == 0.0 && float.abs() < 1e30 && float as i128 == integer
}

/// Prints the term of a value as `~s` of a binary or `~p` of anything else.
pub(crate) fn print(value: &Value) -> String {
    match Term::from(value) {
        Term::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => print_bare(value),
    }
}

/// Prints the term of a value as `~p`, a binary too.
pub(crate) fn print_bare(value: &Value) -> String {
    let mut out = String::new();
    print_term(value, &mut out);
    out
}

/// Prints a value with its type, as `{longstr,<<"5">>}`.
pub(crate) fn print_typed(value: &Value) -> String {
    let mut out = format!("{{{},", type_name(value));
    print_term(value, &mut out);
    out.push('}');
    out
}

/// Prints a binary as `<<"5">>`.
pub(crate) fn print_binary(bytes: &[u8]) -> String {
    let mut out = String::new();
    push_binary(bytes, &mut out);
    out
}

fn push_binary(bytes: &[u8], out: &mut String) {
    let printable = |&octet: &u8| matches!(octet, 8..=13 | 27 | 32..=126 | 160..=255);
    out.push_str("<<");
    if bytes.iter().all(printable) {
        if !bytes.is_empty() {
            out.push('"');
            for &octet in bytes {
                match octet {
                    b'"' | b'\\' => out.extend(['\\', octet.into()]),
                    8 => out.push_str("\\b"),
                    9 => out.push_str("\\t"),
                    10 => out.push_str("\\n"),
                    11 => out.push_str("\\v"),
                    12 => out.push_str("\\f"),
                    13 => out.push_str("\\r"),
                    27 => out.push_str("\\e"),
                    octet => out.push(octet.into()),
                }
            }
            out.push('"');
        }
    } else {
        let octets: Vec<String> = bytes.iter().map(u8::to_string).collect();
        out.push_str(&octets.join(","));
    }
    out.push_str(">>");
}

fn print_term(value: &Value, out: &mut String) {
    match Term::from(value) {
        Term::Integer(value) => _ = write!(out, "{value}"),
        Term::Float(value) => out.push_str(&print_float(value)),
        Term::Boolean(value) => _ = write!(out, "{value}"),
        Term::Binary(bytes) => push_binary(bytes, out),
        Term::Decimal(scale, value) => _ = write!(out, "{{{scale},{value}}}"),
        Term::Empty => out.push_str("[]"),
        Term::Undefined => out.push_str("undefined"),
        Term::Nested(Value::Table(table)) => {
            for (at, (key, value)) in table.iter().enumerate() {
                out.push_str(if at == 0 { "[{" } else { ",{" });
                push_binary(key.as_bytes(), out);
                _ = write!(out, ",{},", type_name(value));
                print_term(value, out);
                out.push('}');
            }
            out.push(']');
        }
        Term::Nested(value) => {
            for (at, value) in value.as_array().unwrap_or_default().iter().enumerate() {
                out.push_str(if at == 0 { "[" } else { "," });
                out.push_str(&print_typed(value));
            }
            out.push(']');
        }
    }
}

/// Prints a float as Erlang does: the shortest digits, in the shorter of both notations.
fn print_float(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    // The shortest digits: `d.ddde-7`.
    let shortest = format!("{:e}", value.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(|digit| *digit != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if value < 0.0 { "-" } else { "" };
    let len = digits.len() as i32;
    // How many digits stand before the point.
    let place = exponent + 1;
    let scientific = || {
        let (first, rest) = digits.split_at(1);
        format!("{first}.{}e{exponent}", if rest.is_empty() { "0" } else { rest })
    };
    let scientific_len = exponent.to_string().len() as i32 + 1 + if len == 1 { 2 } else { 1 };
    let text = if place > 0 && place < len {
        let (whole, fraction) = digits.split_at(place as usize);
        format!("{whole}.{fraction}")
    } else if place <= 0 {
        if 2 - place <= scientific_len || place == 0 {
            format!("0.{}{digits}", "0".repeat(-place as usize))
        } else {
            scientific()
        }
    } else if place - len + 2 <= scientific_len {
        format!("{digits}{}.0", "0".repeat((place - len) as usize))
    } else {
        scientific()
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use actix_pika_actors::Table;

    use super::*;

    fn void() -> Value {
        Value::Void
    }

    /// broker.md section 3.
    #[test]
    fn integers_of_all_types_are_one_term() {
        let ones =
            [Value::from(1i8), 1u8.into(), 1i16.into(), 1u16.into(), 1i32.into(), 1u32.into(), 1i64.into()];
        for one in &ones {
            for other in &ones {
                assert!(same_term(one, other, Numbers::Strict));
            }
            assert!(same_term(one, &Value::Timestamp(1), Numbers::Strict));
            assert!(same_term(one, &Value::from(1.0), Numbers::Loose));
            for different in [Value::from(1.0), true.into(), "1".into(), void(), Table::new().into()] {
                assert!(!same_term(one, &different, Numbers::Strict), "{different:?}");
            }
        }
        assert!(!same_term(
            &Value::from((1i64 << 53) + 1),
            &Value::from((1u64 << 53) as f64),
            Numbers::Loose
        ));
    }

    /// broker.md section 3.
    #[test]
    fn texts_equal_bytes_and_empty_tables_equal_empty_arrays() {
        assert!(same_term(&"ab".into(), &Value::from(&b"ab"[..]), Numbers::Strict));
        assert!(same_term(&Table::new().into(), &Vec::<Value>::new().into(), Numbers::Strict));
        assert!(!same_term(&true.into(), &"true".into(), Numbers::Loose));
        assert!(same_term(&void(), &void(), Numbers::Strict));
    }

    #[test]
    fn nested_values_keep_their_type() {
        let array = |value: Value| Value::from(vec![value]);
        let table = |value: Value| Value::from(Table::new().with("a", value));
        for wrap in [&array as &dyn Fn(Value) -> Value, &table] {
            assert!(same_term(&wrap(1i32.into()), &wrap(1i32.into()), Numbers::Strict));
            assert!(!same_term(&wrap(1i32.into()), &wrap(1i64.into()), Numbers::Loose));
        }
        assert!(!same_term(&array(1.into()), &table(1.into()), Numbers::Loose));
    }

    /// broker.md section 2.
    #[test]
    fn terms_are_printed_as_erlang_does() {
        for (value, text) in [
            (Value::from(-5), "-5"),
            (true.into(), "true"),
            (1.0.into(), "1.0"),
            (0.1.into(), "0.1"),
            ((-2.5).into(), "-2.5"),
            (1e22.into(), "1.0e22"),
            (1e-7.into(), "1.0e-7"),
            (123_456_789.0.into(), "123456789.0"),
            (0.001.into(), "0.001"),
            (1.5e300.into(), "1.5e300"),
            ("p.ae".into(), "p.ae"),
            (Table::new().into(), "[]"),
            (Table::new().with("a", 1).into(), r#"[{<<"a">>,signedint,1}]"#),
            (vec![Value::from("x"), 2i64.into()].into(), r#"[{longstr,<<"x">>},{long,2}]"#),
        ] {
            assert_eq!(print(&value), text);
        }
        assert_eq!(print_typed(&"5".into()), r#"{longstr,<<"5">>}"#);
        assert_eq!(print_binary(b"some"), r#"<<"some">>"#);
        assert_eq!(print_bare(&Value::from(&b"5"[..])), r#"<<"5">>"#);
        assert_eq!(print_binary(b""), "<<>>");
        assert_eq!(print_binary(&[0, 1]), "<<0,1>>");
    }
}
