//! The bindings of a headers exchange.

use actix_pika_actors::{Table, Text, Value};

use crate::core::{
    Rules,
    term::{self, Numbers, same_term},
};

/// What a headers binding asks of the headers of a message: its arguments, in the order of their keys.
#[derive(Clone, Debug)]
pub(super) struct HeadersPattern {
    all: bool,
    wanted: Vec<(Text, Value)>,
}

impl HeadersPattern {
    /// Reads the arguments of a binding. Unknown ones in `x-match` are taken for `all`: [`check`] refuses them.
    pub(super) fn new(arguments: &Table) -> Self {
        let mode = arguments.get("x-match").and_then(Value::as_str).unwrap_or("all");
        let (all, with_x) = match mode {
            "any" => (false, false),
            "any-with-x" => (false, true),
            "all-with-x" => (true, true),
            _ => (true, false),
        };
        let mut wanted: Vec<_> = arguments
            .iter()
            .filter(|(key, _)| **key != "x-match" && (with_x || !key.as_bytes().starts_with(b"x-")))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        wanted.sort_by(|(left, _), (right, _)| left.cmp(right));
        Self { all, wanted }
    }

    /// Returns whether the headers of a message match.
    pub(super) fn matches(&self, headers: &SortedHeaders<'_>) -> bool {
        let mut rest = &headers.entries[..];
        for (key, wanted) in &self.wanted {
            // Both are in order. A key that occurs twice is compared in pairs.
            let skipped = rest.partition_point(|(header, _)| *header < key);
            rest = &rest[skipped..];
            let matched = match rest.split_first() {
                Some(((header, value), behind)) if *header == key => {
                    rest = behind;
                    headers.value_matches(wanted, value)
                }
                _ => false,
            };
            if matched != self.all {
                return matched;
            }
        }
        self.all
    }
}

/// The headers of a message, prepared to be matched.
#[derive(Debug)]
pub(super) struct SortedHeaders<'a> {
    entries: Vec<(&'a Text, &'a Value)>,
    numbers: Numbers,
    /// A timestamp is its number of seconds. Otherwise it is one of milliseconds.
    timestamp_in_seconds: bool,
}

impl<'a> SortedHeaders<'a> {
    pub(super) fn new(headers: Option<&'a Table>, rules: &Rules) -> Self {
        let mut entries: Vec<_> = headers.into_iter().flat_map(Table::iter).collect();
        entries.sort_by_key(|(key, _)| *key);
        if !rules.integer_equals_float {
            // These lines keep the headers in a map: of a key that occurs twice, the last one counts.
            entries.reverse();
            entries.dedup_by(|(later, _), (kept, _)| later == kept);
            entries.reverse();
        }
        let numbers = if rules.integer_equals_float { Numbers::Loose } else { Numbers::Strict };
        Self { entries, numbers, timestamp_in_seconds: rules.timestamp_matches_number }
    }

    fn value_matches(&self, wanted: &Value, value: &Value) -> bool {
        match value {
            _ if matches!(wanted, Value::Void) => true,
            Value::Timestamp(seconds) if !self.timestamp_in_seconds => {
                let millis = Value::Timestamp(seconds.saturating_mul(1000));
                same_term(wanted, &millis, self.numbers)
            }
            value => same_term(wanted, value, self.numbers),
        }
    }
}

/// Checks the arguments of a binding. The error is the text of a 406.
pub(super) fn check(arguments: &Table) -> Result<(), String> {
    match arguments.get("x-match") {
        None => Ok(()),
        Some(Value::LongString(mode))
            if ["all", "any", "all-with-x", "any-with-x"].iter().any(|known| mode == known) =>
        {
            Ok(())
        }
        Some(Value::LongString(mode)) => {
            let mode = term::print_binary(mode.as_bytes());
            Err(format!("Invalid x-match field value {mode}; expected all, any, all-with-x, or any-with-x"))
        }
        Some(other) => {
            let (kind, value) = (term::type_name(other), term::print_bare(other));
            Err(format!("Invalid x-match field type {kind} (value {value}); expected longstr"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Line;

    const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

    fn matches(line: Line, binding: &Table, headers: &Table) -> bool {
        HeadersPattern::new(binding).matches(&SortedHeaders::new(Some(headers), line.rules()))
    }

    fn by_line(binding: &Table, headers: &Table) -> [bool; 4] {
        LINES.map(|line| matches(line, binding, headers))
    }

    fn one(value: impl Into<Value>) -> Table {
        Table::new().with("a", value.into())
    }

    /// broker.md section 3, headers exchange.
    #[test]
    fn values_are_compared_without_their_type() {
        for (binding, header) in [
            (Value::from(1i8), Value::from(1i64)),
            (1u32.into(), 1i16.into()),
            ("x".into(), Value::from(&b"x"[..])),
            (Table::new().into(), Vec::<Value>::new().into()),
            (Value::Void, true.into()),
            (Value::Void, Value::Void),
            (Value::Timestamp(5), 5i64.into()),
        ] {
            assert_eq!(by_line(&one(binding.clone()), &one(header)), [true; 4], "{binding}");
        }
        for (binding, header) in
            [(Value::from(1), Value::from(true)), (1.into(), "1".into()), (1.into(), Value::Void)]
        {
            assert_eq!(by_line(&one(binding.clone()), &one(header)), [false; 4], "{binding}");
        }
    }

    /// broker.md section 16: headers 1 vs 1.0.
    #[test]
    fn an_integer_equals_a_float_in_3_10_only() {
        assert_eq!(by_line(&one(1), &one(1.0)), [true, false, false, false]);
        assert_eq!(by_line(&one(1.0), &one(1)), [true, false, false, false]);
        assert_eq!(by_line(&one(1.0f32), &one(1.0f64)), [true; 4]);
    }

    /// broker.md section 16: timestamp as header matched. By the source it is a number of milliseconds from 4.0 on.
    #[test]
    fn a_timestamp_in_a_message_is_no_number_of_seconds_from_4_0_on() {
        let stamp = one(Value::Timestamp(5));
        for binding in [one(5), stamp.clone()] {
            assert_eq!(by_line(&binding, &stamp), [true, true, false, false]);
        }
        assert_eq!(by_line(&one(5000), &stamp), [false, false, true, true]);
    }

    /// broker.md section 3.
    #[test]
    fn keys_that_begin_with_x_count_in_the_modes_with_x_only() {
        let with = |mode: &str| Table::new().with("x-match", mode).with("x-a", 1).with("b", 1);
        let (x, b, both) = (
            Table::new().with("x-a", 1).with("b", 2),
            Table::new().with("b", 1),
            Table::new().with("b", 1).with("x-a", 1),
        );
        for (mode, expected) in [
            ("all", [false, true, true]),
            ("any", [false, true, true]),
            ("all-with-x", [false, false, true]),
            ("any-with-x", [true, true, true]),
        ] {
            for (headers, expected) in [&x, &b, &both].into_iter().zip(expected) {
                assert_eq!(by_line(&with(mode), headers), [expected; 4], "{mode} {headers}");
            }
        }
    }

    /// broker.md section 3.
    #[test]
    fn without_keys_all_matches_everything_and_any_nothing() {
        for (binding, expected) in [
            (Table::new(), true),
            (Table::new().with("x-match", "all").with("x-only", 1), true),
            (Table::new().with("x-match", "any"), false),
            (Table::new().with("x-match", "any").with("x-only", 1), false),
            (Table::new().with("x-match", "any-with-x"), false),
            (Table::new().with("x-match", "all-with-x"), true),
        ] {
            assert_eq!(by_line(&binding, &Table::new()), [expected; 4], "{binding}");
            assert_eq!(by_line(&binding, &one(1)), [expected; 4], "{binding}");
            let none = SortedHeaders::new(None, Line::V3_10.rules());
            assert_eq!(HeadersPattern::new(&binding).matches(&none), expected, "{binding}");
        }
    }

    #[test]
    fn all_wants_every_key_and_any_wants_one() {
        let wanted = Table::new().with("c", 3).with("a", 1);
        for (headers, all, any) in [
            (Table::new().with("c", 3).with("b", 2).with("a", 1), true, true),
            (Table::new().with("a", 1), false, true),
            (Table::new().with("a", 2).with("c", 3), false, true),
            (Table::new().with("a", 2), false, false),
            (Table::new(), false, false),
        ] {
            assert_eq!(by_line(&wanted, &headers), [all; 4]);
            assert_eq!(by_line(&wanted.clone().with("x-match", "any"), &headers), [any; 4]);
        }
    }

    /// broker.md section 2.
    #[test]
    fn a_wrong_match_mode_is_refused() {
        let error = |mode: Value| check(&Table::new().with("x-match", mode)).unwrap_err();
        assert_eq!(
            error("some".into()),
            "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x"
        );
        assert_eq!(error(1.into()), "Invalid x-match field type signedint (value 1); expected longstr");
        for mode in ["all", "any", "all-with-x", "any-with-x"] {
            assert_eq!(check(&Table::new().with("x-match", mode)), Ok(()));
        }
        assert_eq!(check(&Table::new()), Ok(()));
    }
}
