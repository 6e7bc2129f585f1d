//! The system-call filters that programs get. The shipped ones are compiled by `build.rs`: to parse and compile a policy takes as long as a launch.

use std::sync::Arc;

use seccomp::filter::Instruction;

pub use seccomp::filter::{CompileError as FilterError, Filter};

include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// The shipped policy for functions, compiled for this machine.
pub fn shipped_filter() -> Arc<Filter> {
    Arc::new(Filter::precompiled(LAMBDA))
}

/// The shipped policy of a private network with a way out, to be installed before [`shipped_filter`].
pub(crate) fn network_filter() -> Arc<Filter> {
    Arc::new(Filter::precompiled(NETWORK))
}

#[cfg(test)]
mod tests {
    use seccomp::numbers::Architecture;
    use seccomp::policy::Policy;

    use super::*;

    #[test]
    fn the_built_in_filters_are_the_shipped_texts() {
        for (built_in, policy) in [(LAMBDA, Policy::lambda()), (NETWORK, Policy::network())] {
            assert_eq!(built_in, Filter::compile(&policy, Architecture::HOST).unwrap().instructions());
        }
    }
}
