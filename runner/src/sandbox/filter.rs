//! The system-call filters that programs get. The shipped ones are compiled by `build.rs`: to parse and compile a policy takes as long as a launch.

use std::sync::Arc;

pub use seccomp::filter::Filter;
use seccomp::filter::{CompileError, Instruction};
use seccomp::numbers::Architecture;
use seccomp::policy::{ParsePolicyError, Policy};

use super::{Access, IdMap};

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// The shipped policy for functions, compiled for this machine.
pub fn shipped_filter() -> Arc<Filter> {
    Arc::new(Filter::precompiled(LAMBDA))
}

/// The shipped policy of root inside, which builds in a root of its own.
///
/// Where folders of the host may be written to no file gets a set-id bit: there it would work on the host. With a range of ids the kernel decides about
/// owners and users.
pub fn build_filter(volumes: Access, ids: IdMap) -> Arc<Filter> {
    Arc::new(Filter::precompiled(match (volumes, ids) {
        (Access::ReadWrite, IdMap::Single) => BUILD_WITH_VOLUMES,
        (Access::ReadOnly, IdMap::Single) => BUILD,
        (Access::ReadWrite, IdMap::Subordinate(_)) => BUILD_WITH_IDS_AND_VOLUMES,
        (Access::ReadOnly, IdMap::Subordinate(_)) => BUILD_WITH_IDS,
    }))
}

/// The shipped policy of a private network with a way out, to be installed before [`shipped_filter`].
pub(crate) fn network_filter() -> Arc<Filter> {
    Arc::new(Filter::precompiled(NETWORK))
}

/// Why a text gives no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is no policy.
    #[error(transparent)]
    Policy(#[from] ParsePolicyError),
    /// The policy is not for this machine, or too long.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It hands calls to a supervisor.
    #[error("`notify` has nobody to answer it")]
    Notifies,
}

/// Compiles the text of a policy for this machine.
pub fn compile_filter(text: &str) -> Result<Arc<Filter>, FilterError> {
    let policy: Policy = text.parse()?;
    if policy.notifies() {
        return Err(FilterError::Notifies);
    }
    Ok(Arc::new(Filter::compile(&policy, Architecture::HOST)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_filters_are_the_shipped_texts() {
        for (built_in, policy) in [
            (LAMBDA, Policy::lambda()),
            (NETWORK, Policy::network()),
            (BUILD, Policy::build()),
            (BUILD_WITH_VOLUMES, Policy::build_with_volumes()),
            (BUILD_WITH_IDS, Policy::build_with_ids()),
            (BUILD_WITH_IDS_AND_VOLUMES, Policy::build_with_ids_and_volumes()),
        ] {
            assert_eq!(built_in, Filter::compile(&policy, Architecture::HOST).unwrap().instructions());
        }
    }
}
