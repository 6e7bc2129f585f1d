//! What a run may use: the defaults, and Lambda's rule for processors.

use super::ConfigError;
use crate::function::MemorySize;
use crate::sandbox::{CpuShare, Limits};

/// How much processor time a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuRule {
    /// All that the machine gives.
    Unlimited,
    /// As on Lambda: a share that grows with the memory.
    Lambda,
    /// So much of one processor's time, or of several: 100 000 is one.
    Share {
        /// Microseconds of 100 ms.
        micros_per_100_ms: u64,
    },
}

impl CpuRule {
    /// The limits of a sandbox: of memory, if it is limited, and of processors by the memory that the function is said to have.
    pub fn limits(self, limit: Option<MemorySize>, said: MemorySize) -> Limits {
        /// So many megabytes have one whole processor (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
        const MB_PER_CPU: u64 = 1769;
        let cpu = match self {
            Self::Unlimited => None,
            Self::Share { micros_per_100_ms } => Some(CpuShare { micros_per_100_ms }),
            Self::Lambda => Some(CpuShare { micros_per_100_ms: u64::from(said.mb()) * 100_000 / MB_PER_CPU }),
        };
        Limits { memory_bytes: limit.map(MemorySize::bytes), cpu }
    }
}

/// A memory limit that a program can be started with.
pub fn memory(given: Option<MemorySize>) -> Result<Option<MemorySize>, ConfigError> {
    match given {
        Some(memory) if memory.bytes() < Limits::LEAST_MEMORY => Err(ConfigError::TooLittleMemory { memory }),
        given => Ok(given),
    }
}

/// The size of `/tmp`: Lambda's when none is given.
pub fn tmp_size(given: Option<MemorySize>) -> MemorySize {
    const DEFAULT_MB: u32 = 512;
    given.or(MemorySize::from_mb(DEFAULT_MB)).expect("the default is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_by_memory() {
        for (mb, micros) in [(128, 7235), (1769, 100_000), (3538, 200_000), (10_240, 578_858)] {
            let limits = CpuRule::Lambda.limits(None, MemorySize::from_mb(mb).unwrap());
            assert_eq!((limits.memory_bytes, limits.cpu), (None, Some(CpuShare { micros_per_100_ms: micros })), "{mb}");
        }
        let memory = MemorySize::from_mb(1).unwrap();
        assert_eq!(CpuRule::Unlimited.limits(Some(memory), memory), Limits { memory_bytes: Some(1 << 20), cpu: None });
    }

    #[test]
    fn dockers_least_memory() {
        let mb = |mb| MemorySize::from_mb(mb);
        assert!(matches!(memory(mb(5)), Err(ConfigError::TooLittleMemory { .. })));
        assert_eq!(memory(mb(6)).unwrap(), mb(6));
        assert_eq!(memory(None).unwrap(), None);
        assert_eq!((tmp_size(None).mb(), tmp_size(mb(7)).mb()), (512, 7));
    }
}
