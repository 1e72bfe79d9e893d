//! Numbers as people read them.

use std::{fmt, time::Duration};

/// `12,345`, without what is behind the point.
pub(super) fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `15 minutes`, `90 seconds`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        60 => "1 minute".to_owned(),
        _ if seconds >= 120 && seconds.is_multiple_of(60) => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

/// With a capital at its beginning.
pub(super) fn title(text: fmt::Arguments<'_>) -> String {
    let text = text.to_string();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_readable() {
        assert_eq!([0.4, 999.0, 1000.0, 1_234_567.0].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [60, 90, 900].map(|s| span(Duration::from_secs(s))),
            ["1 minute", "90 seconds", "15 minutes"]
        );
    }
}
