//! The system-call filter that programs get.

use std::sync::Arc;

use seccomp::numbers::Architecture;
use seccomp::policy::Policy;

pub use seccomp::filter::{CompileError as FilterError, Filter};

/// Compiles the shipped policy for this machine.
pub fn shipped_filter() -> Result<Arc<Filter>, FilterError> {
    Filter::compile(&Policy::lambda(), Architecture::HOST).map(Arc::new)
}
