//! Where we are, as far as it decides what helps: an outer container, a CI service, a kernel that is set up in a special way.

use std::fmt;
use std::fs;
use std::path::Path;

/// A kind of surroundings that is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    GitHubActions,
    Codespaces,
    GitLab,
    Kubernetes,
    Docker,
    Podman,
    GVisor,
    Wsl,
    AppArmor,
    LambdaImage,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GitHubActions => "GitHub Actions",
            Self::Codespaces => "GitHub Codespaces",
            Self::GitLab => "GitLab CI",
            Self::Kubernetes => "Kubernetes",
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::GVisor => "gVisor",
            Self::Wsl => "WSL",
            Self::AppArmor => "AppArmor's restriction of user namespaces (Ubuntu)",
            Self::LambdaImage => "an AWS Lambda base image",
        })
    }
}

/// What this machine says of itself.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub(super) kinds: Vec<Kind>,
    pub(super) userns_switched_off: bool,
    pub(super) no_userns_allowed: bool,
    /// An outer seccomp filter.
    pub(super) filtered: bool,
    /// Parts of `/proc` that are hidden.
    pub(super) masked_proc: bool,
    /// Our AppArmor or SELinux label, if it is more than `unconfined`.
    pub(super) label: Option<String>,
    pub(super) user: u32,
    pub(super) kernel: String,
}

impl Surroundings {
    /// `variables` are the names of those of our own variables that tell of a service.
    pub(super) fn read(variables: &[&'static str]) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let number = |path: &str| text(path).trim().parse::<u64>().ok();
        let (status, version, mounts) = (text("/proc/self/status"), text("/proc/version"), text("/proc/self/mountinfo"));
        let exists = |path: &str| Path::new(path).exists();
        let mut kinds: Vec<Kind> = variables.iter().filter_map(|name| service(name)).collect();
        let signs = [
            (Kind::Docker, exists("/.dockerenv")),
            (Kind::Podman, exists("/run/.containerenv")),
            (Kind::Kubernetes, exists("/var/run/secrets/kubernetes.io")),
            (Kind::GVisor, version.contains("gVisor") || text("/proc/sys/kernel/osrelease").contains("gvisor")),
            (Kind::Wsl, version.contains("Microsoft") || version.contains("microsoft")),
            (Kind::AppArmor, number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1)),
            (Kind::LambdaImage, exists("/var/runtime/bootstrap")),
        ];
        kinds.extend(signs.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind));
        kinds.dedup();
        let label = text("/proc/self/attr/current").trim_matches(['\0', '\n', ' ']).to_owned();
        Self {
            kinds,
            userns_switched_off: number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0),
            no_userns_allowed: number("/proc/sys/user/max_user_namespaces") == Some(0),
            filtered: status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")),
            masked_proc: mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|place| place.starts_with("/proc/")),
            label: Some(label).filter(|label| !label.is_empty() && label != "unconfined"),
            user: nix::unistd::geteuid().as_raw(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    pub(super) fn are(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    pub(super) fn in_container(&self) -> bool {
        [Kind::Docker, Kind::Podman, Kind::Kubernetes].into_iter().any(|kind| self.are(kind)) || self.filtered || self.masked_proc
    }
}

fn service(variable: &str) -> Option<Kind> {
    Some(match variable {
        "GITHUB_ACTIONS" => Kind::GitHubActions,
        "CODESPACES" => Kind::Codespaces,
        "GITLAB_CI" => Kind::GitLab,
        "KUBERNETES_SERVICE_HOST" => Kind::Kubernetes,
        _ => return None,
    })
}
