//! Which broker the tests use: the variable `TEST_BROKER`.

use std::{io::Write, sync::LazyLock};

use actix_pika_broker::Line;

/// The broker that `TEST_BROKER` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// Unset: the one at `AMQP_URL`, or the node of the installed RabbitMQ.
    Installed,
    /// `4.3`: a node of this version, the first argument of scripts/broker.sh.
    Version(String),
    /// `embedded`, `embedded-3.10`: the project's test broker, in the process of the tests.
    Embedded(Line),
}

impl Choice {
    pub(super) fn get() -> &'static Self {
        static CHOICE: LazyLock<Choice> =
            LazyLock::new(|| Choice::read(&std::env::var("TEST_BROKER").unwrap_or_default()));
        &CHOICE
    }

    fn read(value: &str) -> Self {
        match value {
            "" => Self::Installed,
            "embedded" | "embedded-4.3" => Self::Embedded(Line::V4_3),
            "embedded-4.0" => Self::Embedded(Line::V4_0),
            "embedded-3.13" => Self::Embedded(Line::V3_13),
            "embedded-3.10" => Self::Embedded(Line::V3_10),
            version => {
                let known = version.starts_with(|first: char| first.is_ascii_digit());
                assert!(known, "TEST_BROKER is {version:?}, which is no version of scripts/broker.sh");
                Self::Version(version.to_owned())
            }
        }
    }

    /// Returns the version of the project's own nodes, `None` for the installed RabbitMQ.
    pub(super) fn version() -> Option<String> {
        match Self::get() {
            Self::Version(version) => Some(version.clone()),
            _ => None,
        }
    }

    pub(super) fn is_embedded() -> bool {
        matches!(Self::get(), Self::Embedded(_))
    }
}

/// Says why a test, or a part of it, is left out. `../../README.md` lists them.
pub fn leave_out(reason: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // Not by a macro, whose output only failed tests show.
    writeln!(std::io::stderr(), "left out: {test}: {reason}").expect("stderr is open");
}

#[test]
fn the_lines_of_the_test_broker_are_known() {
    let line = |value| match Choice::read(value) {
        Choice::Embedded(line) => Some(line.version()),
        _ => None,
    };
    let values = ["embedded", "embedded-3.10", "embedded-3.13", "embedded-4.0", "embedded-4.3", "4.3", ""];
    let versions = values.map(line);
    assert_eq!(
        versions,
        [Some("4.3.6"), Some("3.10.8"), Some("3.13.7"), Some("4.0.5"), Some("4.3.6"), None, None]
    );
}
