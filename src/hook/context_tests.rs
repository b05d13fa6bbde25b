use super::*;
use crate::message::{Properties, Table, Value};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_context_is_read_and_written() {
    let context = TraceContext::parse(PARENT, Some(" rojo=00f067aa0ba902b7,congo=t61 ")).unwrap();
    assert_eq!(context.trace_id(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    assert_eq!((context.span_id(), context.is_sampled()), (0xb7ad_6b71_6920_3331, true));
    assert_eq!(context.tracestate(), Some("rojo=00f067aa0ba902b7,congo=t61"));
    assert_eq!(context.traceparent(), PARENT);
    assert!(!TraceContext::parse(&PARENT.replace("-01", "-00"), None).unwrap().is_sampled());
}

#[test]
fn later_versions_are_read_as_far_as_they_are_known() {
    let known = TraceContext::parse(PARENT, None);
    for later in [
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like",
    ] {
        assert_eq!(TraceContext::parse(later, None), known, "{later}");
    }
    // Flags that are not known are not sent on.
    let flags = TraceContext::parse(&PARENT.replace("-01", "-ff"), None).unwrap();
    assert!(flags.traceparent().ends_with("-03"));
}

#[test]
fn what_is_invalid_is_ignored() {
    let wrong = [
        "",
        "-",
        "00",
        "00-",
        "0",
        "\u{20ac}",
        "00\u{20ac}",
        "--------------------------------------------------------",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.x",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033310-01",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331+01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    for wrong in wrong {
        assert_eq!(TraceContext::parse(wrong, None), None, "{wrong}");
    }
    for state in ["", " ", "no key", "rojo=\u{20ac}", "rojo=\n", &format!("rojo={}", "x".repeat(508))] {
        assert_eq!(TraceContext::parse(PARENT, Some(state)).unwrap().tracestate(), None, "{state:?}");
    }
}

/// Every string that is one edit away from a valid one is valid in the same way, or ignored.
#[test]
fn edits_of_a_header_are_read_or_ignored() {
    let characters = ['0', '1', 'a', 'F', 'g', '-', ' ', '\0', '\u{e4}', '\u{1f600}'];
    let (mut read, mut ignored) = (0, 0);
    for at in 0..=PARENT.len() {
        let (before, after) = PARENT.split_at(at);
        let mut edits = vec![before.to_owned()];
        for c in characters {
            edits.push(format!("{before}{c}{after}"));
            edits.push(format!("{before}{c}{}", after.get(1..).unwrap_or_default()));
        }
        for edit in edits {
            match TraceContext::parse(&edit, None) {
                Some(context) => {
                    let again = TraceContext::parse(&context.traceparent(), None);
                    assert_eq!(again, Some(context));
                    read += 1;
                }
                None => ignored += 1,
            }
        }
    }
    assert!(read > 100 && ignored > 500, "{read} {ignored}");
}

/// Random bytes as headers of any type: ignored, without a panic.
#[test]
fn headers_of_others_are_no_obstacle() {
    fastrand::seed(7);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..fastrand::usize(..80)).map(|_| fastrand::u8(..)).collect();
        let value = match fastrand::u8(..4) {
            0 => Value::from(bytes),
            1 => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
            2 => Value::from(fastrand::i64(..)),
            _ => Value::from(Table::new().with("traceparent", PARENT)),
        };
        assert_eq!(TraceContext::extract(&Table::new().with(TRACEPARENT, value)), None);
    }
    let bytes = Table::new().with(TRACEPARENT, PARENT.as_bytes().to_vec()).with(TRACESTATE, 7);
    assert_eq!(TraceContext::extract(&bytes).unwrap().tracestate(), None);
}

#[test]
fn a_header_of_the_user_is_kept() {
    let (context, mut properties) = (TraceContext::root(true), Properties::new());
    context.inject(&mut properties);
    assert_eq!(TraceContext::extract(&properties).as_ref(), Some(&context));
    TraceContext::root(true).inject(&mut properties);
    assert_eq!(TraceContext::extract(&properties).as_ref(), Some(&context));

    // Even one that is wrong.
    let mut headers = Table::new().with(TRACEPARENT, "mine").with(TRACESTATE, "a=1");
    context.inject(&mut headers);
    assert_eq!(headers, Table::new().with(TRACEPARENT, "mine").with(TRACESTATE, "a=1"));

    let mut headers = Table::new().with(TRACESTATE, "a=1");
    context.inject(&mut headers);
    assert_eq!(headers, Table::new().with(TRACEPARENT, context.traceparent()));
}

#[test]
fn the_state_goes_with_the_trace() {
    let context = TraceContext::parse(PARENT, Some("rojo=1")).unwrap();
    let mut headers = Table::new();
    context.child().inject(&mut headers);
    let child = TraceContext::extract(&headers).unwrap();
    assert_eq!((child.trace_id(), child.tracestate()), (context.trace_id(), Some("rojo=1")));
    assert_ne!(child.span_id(), context.span_id());

    let follows = context.linked_root();
    assert_ne!(follows.trace_id(), context.trace_id());
    assert_eq!((follows.link(), follows.tracestate()), (Some(&context), None));
}

#[test]
fn what_is_current_is_restored_also_after_a_panic() {
    let (outer, inner) = (TraceContext::root(true), TraceContext::root(true));
    outer.enter(|| {
        inner.enter(|| assert_eq!(TraceContext::current().as_ref(), Some(&inner)));
        assert_eq!(TraceContext::current().as_ref(), Some(&outer));
        let panicking = crate::caught::caught(|| inner.enter(|| panic!("a function panics in this test")));
        assert_eq!((panicking, TraceContext::current().as_ref()), (None::<()>, Some(&outer)));
    });
    assert_eq!(TraceContext::current(), None);
}

#[test]
fn a_future_is_polled_in_its_trace_only() {
    use futures_util::FutureExt;
    let context = TraceContext::root(true);
    let mut polls = 0;
    let mut traced = Box::pin(context.clone().scope(std::future::poll_fn(move |_| {
        polls += 1;
        assert_eq!(TraceContext::current().as_ref(), Some(&context));
        if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
    })));
    assert_eq!(traced.as_mut().now_or_never(), None);
    assert_eq!(TraceContext::current(), None);
    assert_eq!(traced.as_mut().now_or_never(), Some(()));
}

#[cfg(feature = "opentelemetry")]
mod otel {
    use opentelemetry::{
        Context,
        propagation::{Extractor, Injector},
        trace::{SpanContext, TraceContextExt},
    };

    use super::*;
    use crate::hook::otel::parent;

    #[test]
    fn a_context_is_that_of_opentelemetry_and_back() {
        let context = TraceContext::parse(PARENT, Some("rojo=1")).unwrap();
        let span = SpanContext::from(&context);
        assert_eq!((span.is_remote(), span.is_sampled()), (true, true));
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.trace_state().header(), "rojo=1");

        // One of another process is not that of the code here; a span that was started here is.
        let _outside = parent(Some(&context)).attach();
        assert_eq!(TraceContext::current(), None);
        let here = SpanContext::new(
            span.trace_id(),
            span.span_id(),
            span.trace_flags(),
            false,
            span.trace_state().clone(),
        );
        let _active = Context::current().with_remote_span_context(here).attach();
        assert_eq!(TraceContext::current(), Some(context));
        let _other = parent(None).attach();
        assert_eq!(TraceContext::current(), None);
    }

    #[test]
    fn headers_are_those_of_opentelemetry() {
        let mut headers = Table::new();
        Injector::set(&mut HeaderInjector::from(&mut headers), "baggage", "a=1".into());
        let extractor = HeaderExtractor::from(&headers);
        assert_eq!(Extractor::get(&extractor, "baggage"), Some("a=1"));
        assert_eq!(Extractor::keys(&extractor), ["baggage"]);
    }
}
