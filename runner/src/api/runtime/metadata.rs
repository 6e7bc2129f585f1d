//! What the metadata endpoint tells of the execution environment.

use hyper::header::{AUTHORIZATION, HeaderMap};

/// What it tells, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Who has this (`AWS_LAMBDA_METADATA_TOKEN`) may ask.
    pub token: String,
    /// The availability zone, such as `use1-az1`.
    pub availability_zone_id: String,
}

impl Metadata {
    /// Whether a request shows the token. Whoever is inside can read it from its variables, so how long a comparison takes tells nobody anything.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown == Some(self.token.as_bytes())
    }
}
