//! Durations as Go and protobuf write them.

use std::time::Duration;

/// Nanoseconds of each unit, longest spelling first where one is a prefix of
/// another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
    ("d", 86400e9),
];

/// Reads `1h30m`, `100ms`, `0.5s`, `0`. `None` for anything else, negative
/// durations included. What is too long to hold is the longest duration.
///
/// ```
/// use std::time::Duration;
/// use isthmus::model::parse_duration;
/// assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
/// assert_eq!(parse_duration("0.5s"), Some(Duration::from_millis(500)));
/// assert_eq!(parse_duration("soon"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos += number * UNITS.iter().find(|(name, _)| *name == unit)?.1;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(nanos / 1e9).unwrap_or(Duration::MAX))
}
