//! Fresh identifiers from the system's randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::lambda::RequestId;

/// A request id nobody else has.
pub(super) fn request_id() -> Result<RequestId, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(RequestId::from_random(bytes))
}

/// A trace that nobody samples, in the form Lambda sends since 2023.
pub(super) fn trace_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0;Lineage=1:{}:0", &hex[..24], &hex[24..40], &hex[40..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_ne!(request_id().unwrap(), request_id().unwrap());
        assert_ne!(trace_id().unwrap(), trace_id().unwrap());
    }

    #[test]
    fn trace_ids_have_lambdas_form() {
        let form: String =
            trace_id().unwrap().chars().map(|c| if c.is_ascii_digit() || ('a'..='f').contains(&c) { 'h' } else { c }).collect();
        let h = |count| "h".repeat(count);
        // The letters of the words that are hex digits themselves are masked, too.
        let words = |text: &str| text.chars().map(|c| if ('a'..='f').contains(&c) { 'h' } else { c }).collect::<String>();
        let expected = format!(
            "{}h-{}-{};{}{};{}h;{}h:{}:h",
            words("Root="),
            h(8),
            h(24),
            words("Parent="),
            h(16),
            words("Sampled="),
            words("Lineage="),
            h(8)
        );
        assert_eq!(form, expected);
    }
}
