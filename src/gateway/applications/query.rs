//! The query of a URL.

use percent_encoding::percent_decode_str;

/// The longest query that is read, in bytes.
const LONGEST: usize = 4096;

/// The parameters of a query, in their order.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// `None` if the query is too long. What is no UTF-8 becomes a mark that nothing contains.
    pub(super) fn of(query: Option<&str>) -> Option<Self> {
        let query = query.unwrap_or_default();
        if query.len() > LONGEST {
            return None;
        }
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Some(Self(pairs.collect()))
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// The first value that is not blank.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).map(str::trim).find(|value| !value.is_empty())
    }
}
