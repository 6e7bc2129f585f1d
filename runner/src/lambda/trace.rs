//! The trace that an invocation belongs to, as an answer bears it (`X-Amzn-Trace-Id`).

/// The fields that callers are told. The parent is the runtime's.
const ANSWERED: [&str; 3] = ["root", "sampled", "lineage"];

/// The trace as Lambda's answer bears it, from that which the runtime got: `Root=1-..;Parent=..;Sampled=0` as `root=1-..;sampled=0`. One without a root
/// stays as it is.
pub fn answered(trace: &str) -> String {
    let fields = trace.split(';').filter_map(|field| field.trim().split_once('='));
    let named = fields.filter_map(|(name, value)| {
        ANSWERED.into_iter().find(|answered| name.eq_ignore_ascii_case(answered)).map(|name| format!("{name}={value}"))
    });
    let named: Vec<String> = named.collect();
    if named.iter().any(|field| field.starts_with("root=")) { named.join(";") } else { trace.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_bear_it_in_lower_case() {
        for (trace, answer) in [
            (
                "Root=1-00000000-000000000000000000000000;Parent=1111111111111111;Sampled=0;Lineage=1:22222222:0",
                "root=1-00000000-000000000000000000000000;sampled=0;lineage=1:22222222:0",
            ),
            ("root=1-2-3; sampled=1;Self=x", "root=1-2-3;sampled=1"),
            ("Sampled=1", "Sampled=1"),
            ("mine", "mine"),
            ("", ""),
        ] {
            assert_eq!(answered(trace), answer);
        }
    }
}
