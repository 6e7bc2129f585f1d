//! Profiles for what stands around us, to be installed by the user.

use serde_json::{Value, json};

use crate::config::SeccompReader;

/// Lets the program at `path` make user namespaces where AppArmor keeps them from ordinary users; it confines nothing.
pub(super) fn apparmor(path: &str) -> String {
    format!(
        "# Install: save as /etc/apparmor.d/undocked, then `sudo apparmor_parser -r /etc/apparmor.d/undocked`.\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         \n\
         profile undocked \"{path}\" flags=(unconfined) {{\n\
         \x20 userns,\n\
         \n\
         \x20 include if exists <local/undocked>\n\
         }}\n"
    )
}

/// What docker's own profile refuses (June 2026) but for what sandboxes are made of: namespaces, mounts, host names, and copies of descriptors.
const REFUSED: [&str; 44] = [
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "process_madvise",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "userfaultfd",
    "uselib",
    "vhangup",
];

/// A profile for an outer container in which functions have the best isolation but `/proc`.
pub(super) fn seccomp() -> Value {
    let family = |number: u32, name: &str| {
        json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "comment": name,
               "args": [{"index": 0, "value": number, "op": "SCMP_CMP_EQ"}]})
    };
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [
            {"names": REFUSED.as_slice(), "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            family(38, "AF_ALG"),
            family(40, "AF_VSOCK"),
        ],
    })
}

/// How it is used.
pub(super) fn seccomp_use(reader: SeccompReader) -> &'static str {
    match reader {
        SeccompReader::Docker => "save it as undocked.json and start the outer container with `--security-opt seccomp=undocked.json`",
        SeccompReader::Kubernetes => {
            "save it as /var/lib/kubelet/seccomp/profiles/undocked.json on the node; in the container's securityContext: \
             `seccompProfile: {type: Localhost, localhostProfile: profiles/undocked.json}`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_name_what_they_are_for() {
        let profile = apparmor("/usr/bin/undocked");
        assert!(profile.contains("profile undocked \"/usr/bin/undocked\" flags=(unconfined) {\n  userns,\n"), "{profile}");
        let refused = seccomp()["syscalls"][0]["names"].to_string();
        for needed in ["clone", "unshare", "mount", "pivot_root", "move_mount", "seccomp", "pidfd_getfd", "sethostname"] {
            assert!(!refused.contains(&format!("\"{needed}\"")), "{needed}");
        }
    }
}
