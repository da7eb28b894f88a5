//! Sizes and durations as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

const KIB: u64 = 1024;

/// A number of bytes: an integer, or text such as `"16MiB"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Size(pub(super) u64);

/// A duration: text with a unit such as `"30s"` or `"1h 30m"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Period(pub(super) Duration);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a size such as \"16MiB\" or a number of bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                parse_size(text).map(Size).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) => Ok(Size(bytes)),
                    Err(_) => Err(E::custom("a size is not negative")),
                }
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", KIB * KIB * KIB), ("MiB", KIB * KIB), ("KiB", KIB)];
        match units
            .iter()
            .find(|&&(_, unit)| self.0 >= unit && self.0.is_multiple_of(unit))
        {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Whole numbers of bytes or of a unit; powers of two for `KiB`, of ten for `kB`, as the names say.
fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed
        .find(|char: char| !char.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(format!(
            "{text:?} is not a size: write a whole number and a unit, such as \"16MiB\""
        ));
    }
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" | "K" | "k" => KIB,
        "MiB" | "M" => KIB * KIB,
        "GiB" | "G" => KIB * KIB * KIB,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        unknown => {
            return Err(format!(
                "{unknown:?} is not a unit of size: use B, KiB, MiB, GiB, kB, MB or GB, and a whole number"
            ));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is too large"))
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;
        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a duration with its unit, such as \"30s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Period, E> {
                match humantime::parse_duration(text) {
                    Ok(duration) => Ok(Period(duration)),
                    Err(error) => Err(E::custom(format!(
                        "{text:?} is not a duration such as \"30s\": {error}"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(PeriodVisitor)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            (" 4 KiB ", 4096),
            ("4k", 4096),
            ("16MiB", 16 << 20),
            ("16M", 16 << 20),
            ("1GiB", 1 << 30),
            ("16MB", 16_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "16mib",
            "16 MiB x",
            "20000000000GiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_written_in_the_largest_unit_that_is_exact() {
        for text in ["17", "4KiB", "16MiB", "1GiB", "1025KiB"] {
            let size = Size(parse_size(text).expect("a literal size"));
            assert_eq!(size.to_string(), text);
        }
    }
}
