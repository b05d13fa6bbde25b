//! Field values as text: a letter for the type, as on the wire, and the value, as in `x-expires=I1000`.

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, LongString};

use super::names::Names;

/// Reads a value. A name in it becomes that of the sequence.
pub(crate) fn read_value(text: &str, names: &Names) -> AMQPValue {
    let (kind, value) = text.split_at(1);
    match kind {
        "t" => AMQPValue::Boolean(value == "true"),
        "b" => AMQPValue::ShortShortInt(value.parse().unwrap()),
        "B" => AMQPValue::ShortShortUInt(value.parse().unwrap()),
        "s" => AMQPValue::ShortInt(value.parse().unwrap()),
        "u" => AMQPValue::ShortUInt(value.parse().unwrap()),
        "I" => AMQPValue::LongInt(value.parse().unwrap()),
        "i" => AMQPValue::LongUInt(value.parse().unwrap()),
        "l" => AMQPValue::LongLongInt(value.parse().unwrap()),
        "f" => AMQPValue::Float(value.parse().unwrap()),
        "d" => AMQPValue::Double(value.parse().unwrap()),
        "T" => AMQPValue::Timestamp(value.parse().unwrap()),
        "S" => AMQPValue::LongString(LongString::from(names.full(&value.replace('~', " ")))),
        "A" => {
            let values = value.split(',').filter(|value| !value.is_empty());
            let values: Vec<AMQPValue> = values.map(|value| read_value(value, names)).collect();
            AMQPValue::FieldArray(FieldArray::from(values))
        }
        "F" => AMQPValue::FieldTable(FieldTable::default()),
        "V" => AMQPValue::Void,
        other => panic!("no type {other}"),
    }
}

/// A value as it is shown in an answer, without its type where that is known.
pub(crate) fn value_text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::FieldArray(values) => {
            let values: Vec<String> = values.as_slice().iter().map(value_text).collect();
            format!("({})", values.join(" "))
        }
        AMQPValue::FieldTable(table) => {
            let entries: Vec<String> =
                table.inner().iter().map(|(key, value)| format!("{key}={}", value_text(value))).collect();
            format!("{{{}}}", entries.join(","))
        }
        // A time of the broker's clock, or what the publisher said.
        AMQPValue::Timestamp(seconds) if *seconds > 1_000_000 => "time".into(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_shown() {
        let names = Names::new(7);
        let text = |value: &str| value_text(&read_value(value, &names));
        assert_eq!(text("I5"), "LongInt(5)");
        assert_eq!(text("l5"), "LongLongInt(5)");
        assert_eq!(text("Sa~b"), "a b");
        assert_eq!(text("ASq,I1"), "(q_u7 LongInt(1))");
        assert_eq!(text("T5"), "Timestamp(5)");
        assert_eq!(text("T1700000000"), "time");
    }
}
