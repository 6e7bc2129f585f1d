//! The error type a runtime may name in `Lambda-Runtime-Function-Error-Type`, as Lambda keeps it.

use std::fmt;

/// `Runtime.<UpperCamel>` or `Function.<UpperCamel>`: what REPORT lines and telemetry show. Never shown in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorType(String);

impl ErrorType {
    /// The header's free text, cleaned: of any other form, `Function.<x>` becomes `Function.Unknown` and all else, or nothing, `Runtime.Unknown`.
    pub fn from_header(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default();
        let known = match text.split_once('.') {
            Some(("Runtime" | "Function", name)) if is_upper_camel(name) => text,
            Some(("Function", _)) => "Function.Unknown",
            _ => "Runtime.Unknown",
        };
        Self(known.to_owned())
    }

    /// What an extension named, as it is.
    pub fn of_extension(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// `[A-Z][a-zA-Z]+`, the pattern in AWS's own source.
fn is_upper_camel(name: &str) -> bool {
    name.len() >= 2 && name.starts_with(|first: char| first.is_ascii_uppercase()) && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

impl From<&'static str> for ErrorType {
    /// One of the platform's own types.
    fn from(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_forms() {
        for (header, kept) in [
            (Some("Runtime.ImportModuleError"), "Runtime.ImportModuleError"),
            (Some("Function.Boom"), "Function.Boom"),
            (Some("Function.boom"), "Function.Unknown"),
            (Some("Function."), "Function.Unknown"),
            (Some("Function.A"), "Function.Unknown"),
            (Some("Function.A1"), "Function.Unknown"),
            (Some("Runtime.A.B"), "Runtime.Unknown"),
            (Some("Runtime.Ünder"), "Runtime.Unknown"),
            (Some("ValueError"), "Runtime.Unknown"),
            (Some("Function<RuntimeError>"), "Runtime.Unknown"),
            (Some(""), "Runtime.Unknown"),
            (None, "Runtime.Unknown"),
        ] {
            assert_eq!(ErrorType::from_header(header).to_string(), kept, "{header:?}");
        }
    }
}
