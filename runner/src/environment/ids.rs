//! Fresh identifiers from the system's randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::lambda::RequestId;

/// A request id nobody else has.
pub fn request_id() -> Result<RequestId, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(RequestId::from_random(bytes))
}

/// What the identifiers of an environment's extensions begin with.
pub(super) fn seed() -> Result<[u8; 16], getrandom::Error> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// A secret: 32 hex digits.
pub(super) fn token() -> Result<String, getrandom::Error> {
    Ok(seed()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A trace that nobody samples, in the form Lambda sends since 2023.
pub fn trace_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0;Lineage=1:{}:0", &hex[..24], &hex[24..40], &hex[40..]))
}

/// The trace a caller named in `X-Amzn-Trace-Id`, as the runtime gets it: with what the caller left out. One without a root is none, and a fresh one is made.
pub fn trace_id_under(caller: &str) -> Result<String, getrandom::Error> {
    let fresh = trace_id()?;
    let key = |field: &str| field.split('=').next().unwrap_or_default().to_ascii_lowercase();
    let mut given: Vec<&str> = caller.split(';').map(str::trim).filter(|field| !field.is_empty()).collect();
    if !given.iter().any(|field| key(field) == "root" && field.len() > "root=".len()) {
        return Ok(fresh);
    }
    let missing: Vec<&str> = fresh.split(';').filter(|field| !given.iter().any(|other| key(other) == key(field))).collect();
    given.extend(missing);
    Ok(given.join(";"))
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
    fn a_callers_trace_is_kept_and_completed() {
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let alone = trace_id_under(root).unwrap();
        assert!(alone.starts_with(&format!("{root};Parent=")) && alone.contains(";Sampled=0;Lineage=1:"), "{alone}");
        let whole = format!("{root};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a");
        assert_eq!(trace_id_under(&whole).unwrap(), whole);
        for none in ["", "x", "Root=", "Parent=1;Sampled=1", ";;"] {
            let fresh = trace_id_under(none).unwrap();
            assert!(fresh.starts_with("Root=1-") && fresh.matches("Root=").count() == 1, "{none}: {fresh}");
        }
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
