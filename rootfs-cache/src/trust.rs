//! Who says that an image is the right one: Docker Content Trust (Notary v1), signatures in the registry beside the image, and nobody.
//!
//! [`dct`] reads what a trust server, or a saved copy of its files, says of a repository; [`cosign`] verifies an image that its user has signed; [`probe`] says
//! which signatures there are. Knows nothing of the cache, of lock files or of running.

mod canonical;
mod chain;
pub mod cosign;
pub mod dct;
mod evidence;
mod keys;
mod metadata;
mod place;
pub mod probe;
mod remembered;

pub use chain::ChainError;
pub use dct::{SignedRepository, SignedTag, Signer, TrustMode};
pub use evidence::{Evidence, Freshness, RootTrust};
pub use keys::{KeyError, KeyId, ParseKeyIdError};
pub use metadata::MetadataError;
pub use place::PlaceError;
pub use remembered::RememberedError;
