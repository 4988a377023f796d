//! Values of configuration files, read with the rules of the program that reads them: Spark or Hadoop.
//!
//! Spark takes `True` for true and `5min` for a time; Hadoop takes `5m` and reads every other word as the default. A value
//! that was read as text only would be judged otherwise than by the program, so the two types have no `==`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The unit of a bare number, which each key decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    Milliseconds,
    Seconds,
}

/// A value as Spark uses it: trimmed, and with `${…}` replaced.
#[derive(Clone, Debug)]
pub struct SparkValue(String);

impl SparkValue {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of a name, a path or a URI.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// `None` for what Spark refuses: it stops at its start.
    pub fn boolean(&self) -> Option<bool> {
        boolean(java_trim(&self.0))
    }

    /// A number. `None` for what Spark refuses.
    pub fn number<T: FromStr>(&self) -> Option<T> {
        java_trim(&self.0).parse().ok()
    }

    /// A time. `None` for what Spark refuses, and for a negative one. Spark cuts off what is below the key's unit.
    pub fn time(&self, unit: TimeUnit) -> Option<Duration> {
        let text = self.0.to_lowercase();
        let (number, suffix) = split_number(java_trim(&text))?;
        let micros = match suffix {
            "" => None,
            "us" => Some(1),
            "ms" => Some(1_000),
            "s" => Some(1_000_000),
            "m" | "min" => Some(60_000_000),
            "h" => Some(3_600_000_000),
            "d" => Some(86_400_000_000),
            _ => return None,
        };
        cut(number, micros, unit)
    }

    /// A size in bytes. `unit` is the number of bytes that a bare number counts. `None` for what Spark refuses.
    pub fn size(&self, unit: u64) -> Option<u64> {
        let text = self.0.to_lowercase();
        let (number, suffix) = split_number(java_trim(&text))?;
        let factor = match suffix {
            "" => unit,
            "b" => 1,
            "k" | "kb" => 1 << 10,
            "m" | "mb" => 1 << 20,
            "g" | "gb" => 1 << 30,
            "t" | "tb" => 1 << 40,
            "p" | "pb" => 1 << 50,
            _ => return None,
        };
        number.checked_mul(factor)
    }
}

impl fmt::Display for SparkValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as Hadoop uses it, with `${…}` replaced.
#[derive(Clone, Debug)]
pub struct HadoopValue(String);

impl HadoopValue {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of a name, a path or a URI.
    pub fn text(&self) -> &str {
        java_trim(&self.0)
    }

    /// `None` for every other word: Hadoop then takes the key's default.
    pub fn boolean(&self) -> Option<bool> {
        boolean(self.text())
    }

    /// A number. `None` for what Hadoop refuses.
    pub fn number<T: FromStr>(&self) -> Option<T> {
        self.text().parse().ok()
    }

    /// A time. `None` for what Hadoop refuses, and for a negative one.
    pub fn time(&self, unit: TimeUnit) -> Option<Duration> {
        let text = self.text().to_lowercase();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let micros = match &text[digits.len()..] {
            "" => None,
            "ns" => return cut(digits.parse::<u64>().ok()? / 1_000, Some(1), unit),
            "us" => Some(1),
            "ms" => Some(1_000),
            "s" => Some(1_000_000),
            "m" => Some(60_000_000),
            "h" => Some(3_600_000_000),
            "d" => Some(86_400_000_000),
            _ => return None,
        };
        cut(digits.parse().ok()?, micros, unit)
    }

    /// A size in bytes. `None` for what Hadoop refuses, and for a negative one.
    pub fn size(&self) -> Option<u64> {
        let text = self.text();
        let prefix = text.chars().last().and_then(|c| "kmgtpe".find(c.to_ascii_lowercase()));
        match prefix {
            Some(i) => {
                let number: u64 = text[..text.len() - 1].parse().ok()?;
                number.checked_mul(1 << (10 * (i + 1)))
            }
            None => text.parse().ok(),
        }
    }
}

impl fmt::Display for HadoopValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Trims as `java.lang.String.trim` does: every character up to U+0020.
pub(crate) fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    text.eq_ignore_ascii_case("false").then_some(false)
}

/// Digits and the letters behind them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A time in whole units of a key. `micros` is the length of the unit that the value names.
fn cut(number: u64, micros: Option<u64>, unit: TimeUnit) -> Option<Duration> {
    let of_key = match unit {
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Seconds => 1_000_000,
    };
    let whole = number.checked_mul(micros.unwrap_or(of_key))? / of_key;
    Some(Duration::from_micros(whole.checked_mul(of_key)?))
}
