//! Regular expressions, which Envoy reads as RE2.

use std::sync::Arc;

use regex_syntax::ast::{Error, ErrorKind, parse::Parser};

use crate::manifest::Problem;

/// An expression, unless it is surely none. Envoy refuses all routes of a port
/// for one it cannot read; those of everybody, not of its author alone.
pub(super) fn expression(text: &str) -> Result<Arc<str>, Problem> {
    if text.is_empty() {
        let reason = "is empty; an expression that matches everything is .*";
        return Err(Problem::new("regex", reason));
    }
    match Parser::new().parse(text) {
        Err(error) if is_wrong_in_re2(text, &error) => {
            let reason = format!("{text:?} is no RE2 expression: {}", error.kind());
            Err(Problem::new("regex", reason))
        }
        // What only the parser here does not know, RE2 may.
        _ => Ok(Arc::from(text)),
    }
}

/// Whether RE2 refuses it too: it takes some `{` and `[` as they are, and knows
/// a few escapes more.
fn is_wrong_in_re2(text: &str, error: &Error) -> bool {
    match error.kind() {
        ErrorKind::UnsupportedLookAround
        | ErrorKind::GroupUnclosed
        | ErrorKind::GroupUnopened
        | ErrorKind::EscapeUnexpectedEof => true,
        ErrorKind::ClassUnclosed => text.matches('[').count() == 1,
        ErrorKind::RepetitionMissing => !text.contains('{'),
        // Three digits are a character.
        ErrorKind::UnsupportedBackreference => {
            let rest = text.get(error.span().end.offset..).unwrap_or_default();
            !rest.starts_with(|c: char| c.is_ascii_digit())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_re2_refuses_is_refused() {
        for wrong in [
            "", "(", "a)", "[a", "*", "a|+", "(?=x)", "(?!x)", "(a)\\1", "a\\",
        ] {
            let error = expression(wrong).expect_err(wrong);
            assert!(error.to_string().starts_with("regex: "), "{error}");
        }
    }

    #[test]
    fn what_re2_takes_is_taken() {
        let all = [
            ".*",
            "/users/{id}",
            "{x}",
            "a{2,3}",
            "[[]",
            "[]a]",
            "\\Qa.b\\E",
            "\\101",
            "(?i)abc",
            "(?P<name>x)",
            "[[:alpha:]]+",
            "\\pN",
            "^/api/(v1|v2)/[^/]+$",
        ];
        for good in all {
            assert_eq!(expression(good).as_deref(), Ok(good));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = expression(&text);
        }
    }
}
