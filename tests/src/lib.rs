//! What the tests stand on: where things are, running `undocked`, images made on the spot, registries real and broken, and what must not
//! be left over.
//!
//! Nothing here knows how the product works inside; it knows the command line, the OCI formats and the kernel's view of processes.

pub mod bench;
pub mod broken_registry;
pub mod build_image;
pub mod building;
pub mod docker;
pub mod faulty_proxy;
pub mod fixture;
pub mod image;
pub mod launching;
pub mod leftovers;
pub mod names;
pub mod notary;
pub mod place;
pub mod real;
pub mod real_registry;
pub mod run;
pub mod serving;
pub mod skip;
pub mod tar;
pub mod tls;
pub mod weakened;
pub mod wire;

pub use fixture::Fixture;
pub use run::{Ran, Run};
pub use weakened::Weakened;
