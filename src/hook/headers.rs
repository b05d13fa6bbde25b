//! Headers of messages for what writes and reads a trace context.

use crate::message::{Properties, Table, Value};

/// Writes text into the headers of a message.
///
/// With the feature `opentelemetry` it is an `opentelemetry::propagation::Injector`.
///
/// # Examples
/// ```
/// use actix_pika::{hook::HeaderInjector, message::Properties};
///
/// let mut properties = Properties::new();
/// HeaderInjector::from(&mut properties).set("baggage", "tenant=a");
/// assert_eq!(properties.header("baggage").and_then(|value| value.as_str()), Some("tenant=a"));
/// ```
#[derive(Debug)]
pub struct HeaderInjector<'a>(Target<'a>);

#[derive(Debug)]
enum Target<'a> {
    Table(&'a mut Table),
    /// They get headers with the first one that is set.
    Properties(&'a mut Properties),
}

impl HeaderInjector<'_> {
    /// Sets a header.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{hook::HeaderInjector, message::Table};
    ///
    /// let mut headers = Table::new();
    /// HeaderInjector::from(&mut headers).set("baggage", "tenant=a");
    /// assert!(headers.contains_key("baggage"));
    /// ```
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let headers = match &mut self.0 {
            Target::Table(table) => table,
            Target::Properties(properties) => properties.headers_mut(),
        };
        headers.insert(key, value.into());
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        match &self.0 {
            Target::Table(table) => table.contains_key(key),
            Target::Properties(properties) => properties.header(key).is_some(),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if self.contains(key) {
            match &mut self.0 {
                Target::Table(table) => table.remove(key),
                Target::Properties(properties) => properties.headers_mut().remove(key),
            };
        }
    }
}

impl<'a> From<&'a mut Table> for HeaderInjector<'a> {
    fn from(table: &'a mut Table) -> Self {
        Self(Target::Table(table))
    }
}

impl<'a> From<&'a mut Properties> for HeaderInjector<'a> {
    fn from(properties: &'a mut Properties) -> Self {
        Self(Target::Properties(properties))
    }
}

/// Reads text from the headers of a message. Headers of other types are left out.
///
/// With the feature `opentelemetry` it is an `opentelemetry::propagation::Extractor`.
///
/// # Examples
/// ```
/// use actix_pika::{hook::HeaderExtractor, message::Table};
///
/// let headers = Table::new().with("baggage", "tenant=a").with("attempt", 2);
/// let extractor = HeaderExtractor::from(&headers);
/// assert_eq!((extractor.get("baggage"), extractor.get("attempt")), (Some("tenant=a"), None));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HeaderExtractor<'a>(Option<&'a Table>);

impl<'a> HeaderExtractor<'a> {
    /// Returns a header.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{hook::HeaderExtractor, message::Properties};
    ///
    /// assert_eq!(HeaderExtractor::from(&Properties::new()).get("baggage"), None);
    /// ```
    pub fn get(&self, key: &str) -> Option<&'a str> {
        // Some clients send text as bytes.
        std::str::from_utf8(self.0?.get(key).and_then(Value::as_bytes)?).ok()
    }

    /// Returns the names of all headers.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{hook::HeaderExtractor, message::Table};
    ///
    /// let headers = Table::new().with("baggage", "tenant=a");
    /// assert_eq!(HeaderExtractor::from(&headers).keys(), ["baggage"]);
    /// ```
    pub fn keys(&self) -> Vec<&'a str> {
        self.0.into_iter().flat_map(Table::iter).filter_map(|(key, _)| key.as_str()).collect()
    }
}

impl<'a> From<&'a Table> for HeaderExtractor<'a> {
    fn from(table: &'a Table) -> Self {
        Self(Some(table))
    }
}

impl<'a> From<&'a Properties> for HeaderExtractor<'a> {
    fn from(properties: &'a Properties) -> Self {
        Self(properties.headers())
    }
}
