//! Headers exchanges in the whole core: broker.md 3 and 16.

use super::rig::Rig;
use crate::core::Line;

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

/// What matches, by line. The letters of the types are those of the wire.
#[test]
fn values_by_line() {
    let none = [false; 4];
    let all = [true; 4];
    let old = [true, false, false, false];
    for (binding, header, expected) in [
        ("k=I1", "k=l1", all),
        ("k=b1", "k=s1", all),
        ("k=I1", "k=d1", old),
        ("k=d1", "k=I1", old),
        ("k=I1", "k=ttrue", none),
        ("k=Sa", "k=Sa", all),
        ("k=Sa", "k=Sb", none),
        ("k=V", "k=Sanything", all),
        ("k=V", "k=V", all),
        ("k=V", "other=I1", none),
        ("k=A", "k=A", all),
        ("k=AI1,Sx", "k=AI1,Sx", all),
        ("k=AI1", "k=Al1", none),
        ("k=T5", "k=I5", all),
        ("x-match=Sany k=I1 m=I2", "m=I2", all),
        ("x-match=Sall k=I1 m=I2", "m=I2", none),
        ("x-match=Sany x-k=I1", "x-k=I1", none),
        ("x-match=Sany-with-x x-k=I1", "x-k=I1", all),
        ("x-match=Sall x-k=I1", "m=I1", all),
        ("x-match=Sall-with-x x-k=I1", "m=I1", none),
        ("x-match=Sany", "m=I1", none),
    ] {
        for (line, expected) in LINES.into_iter().zip(expected) {
            let mut rig = Rig::new(line);
            rig.prepare(&["a1 declare q", &format!("a1 bind q amq.headers - {binding}")]);
            let publish = format!("a1 publish amq.headers - m {header} mandatory");
            let returned: &[&str] = &["a1 return 312 m [..] via amq.headers "];
            rig.check(&[(&publish, if expected { &[] } else { returned })]);
        }
    }
}

/// A timestamp in a message is its number up to 3.13, and one of milliseconds from 4.0 on.
#[test]
fn timestamps_by_line() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q", "a1 bind q amq.headers - k=T5", "a1 confirm"]);
        let returned: &[&str] = &["a1 return 312 m [..] via amq.headers ", "a1 ack 1"];
        let expected = if line < Line::V4_0 { &["a1 ack 1"] } else { returned };
        rig.check(&[("a1 publish amq.headers - m k=T5 mandatory", expected)]);
    }
}
