//! The system calls of Linux 6.18: each name's number on the architectures a policy may be compiled for.
//!
//! Names and numbers are those of the kernel's headers (`asm/unistd_64.h`, `asm-generic/unistd.h`). A number once given never changes,
//! so the table only grows; a call missing here cannot be named in a policy and gets the policy's default action.

mod table;

use table::TABLE;

/// An architecture that a policy can be compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// 64-bit x86, without the x32 ABI.
    X86_64,
    /// 64-bit ARM, little-endian.
    Aarch64,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];

    /// The architecture this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const HOST: Architecture = Architecture::X86_64;
    /// The architecture this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const HOST: Architecture = Architecture::Aarch64;

    /// The name a policy uses.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        }
    }

    /// The kernel's `AUDIT_ARCH_*`, which `seccomp_data` carries.
    pub(crate) fn audit_value(self) -> u32 {
        match self {
            Architecture::X86_64 => 0xc000_003e,
            Architecture::Aarch64 => 0xc000_00b7,
        }
    }
}

/// A system call that at least one architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemCall(
    /// Its place in the table.
    u16,
);

/// A line of the table.
struct Entry {
    name: &'static str,
    x86_64: u32,
    aarch64: Option<u32>,
}

impl SystemCall {
    /// The call of this name.
    pub fn named(name: &str) -> Option<SystemCall> {
        let place = TABLE.binary_search_by_key(&name, |entry| entry.name).ok()?;
        Some(SystemCall(place as u16))
    }

    /// Its name in the kernel's tables.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Its number, where the architecture has it.
    pub fn number(self, architecture: Architecture) -> Option<u32> {
        match architecture {
            Architecture::X86_64 => Some(self.entry().x86_64),
            Architecture::Aarch64 => self.entry().aarch64,
        }
    }

    fn entry(self) -> &'static Entry {
        &TABLE[usize::from(self.0)]
    }
}

/// Every call there is.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = SystemCall> {
    (0..TABLE.len()).map(|place| SystemCall(place as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_unique() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        for architecture in Architecture::ALL {
            let mut numbers: Vec<u32> = all().filter_map(|call| call.number(architecture)).collect();
            numbers.sort_unstable();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{architecture:?}: a number has two names");
        }
    }

    #[test]
    fn calls_since_424_have_one_number_everywhere() {
        for call in TABLE.iter().filter(|call| call.x86_64 >= 424) {
            assert_eq!(call.aarch64, Some(call.x86_64), "{}", call.name);
        }
    }

    /// The `syscalls` crate made its tables from the kernel's on its own. Two things of its arm64 table are wrong and left out:
    /// 403 to 423 are calls of 32-bit kernels, and 79 is `newfstatat` in the kernel's tables, `fstatat` only in a header's.
    #[test]
    fn another_table_agrees() {
        for number in 0..1024 {
            let ours = |architecture| all().find(|call| call.number(architecture) == Some(number)).map(SystemCall::name);
            let theirs = syscalls::x86_64::Sysno::new(number as usize).map(|call| call.name());
            assert_eq!(ours(Architecture::X86_64), theirs, "x86_64 {number}");
            if number != 79 && !(403..=423).contains(&number) {
                let theirs = syscalls::aarch64::Sysno::new(number as usize).map(|call| call.name());
                assert_eq!(ours(Architecture::Aarch64), theirs, "aarch64 {number}");
            }
        }
    }

    #[test]
    fn names_are_found() {
        let table = [
            ("read", Some((0, Some(63)))),
            ("newfstatat", Some((262, Some(79)))),
            ("open", Some((2, None))),
            ("file_setattr", Some((469, Some(469)))),
            ("Read", None),
            ("", None),
        ];
        for (name, wanted) in table {
            assert_eq!(SystemCall::named(name).map(|call| (call.entry().x86_64, call.entry().aarch64)), wanted, "{name}");
        }
    }
}
