//! What helps: for a step that was refused, and for the machine as a whole.

use super::surroundings::{Kind, Surroundings};
use crate::sandbox::Isolation;
use crate::sandbox::probe::{Finding, Rung, Verdict};

/// One line of advice for a step that was refused.
pub(super) fn of_step(finding: &Finding, around: &Surroundings) -> Option<String> {
    let Verdict::Refused(_) = finding.verdict else { return None };
    let step = finding.step.as_str();
    let namespaces = step == "clone into new namespaces" || step.starts_with("write /proc/self/") || step == "make mounts private";
    let mounts = step.starts_with("mount") || step.contains("pivot_root");
    let advice = if namespaces && around.userns_switched_off {
        "user namespaces are switched off: `sudo sysctl -w kernel.unprivileged_userns_clone=1`"
    } else if step.ends_with(" namespaces") && step.starts_with("have ") || namespaces && around.no_userns_allowed {
        "no namespace of this kind is allowed: `sudo sysctl -w user.max_user_namespaces=15000`, and so for the other kinds"
    } else if (namespaces || mounts) && around.are(Kind::AppArmor) && !around.in_container() {
        "AppArmor forbids them to ordinary users: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or the profile of `undocked doctor --print-apparmor-profile`"
    } else if (namespaces || mounts) && around.in_container() {
        "an outer container forbids it; see below"
    } else if step.contains("Landlock") || step.contains("landlock") {
        "functions run without it; Linux 5.13 and later have it, when `landlock` is among the modules of `/sys/kernel/security/lsm`"
    } else if step.contains("pidfd_getfd") || step.starts_with("have a network") {
        "functions run on this machine's network instead"
    } else if step.starts_with("call ") || step.contains("open_tree") {
        "Linux 5.12 or later is needed, and an outer container that does not refuse it"
    } else if step.contains("`--userns subid`") {
        "only that takes it: a range in /etc/subuid and one in /etc/subgid (`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`), and the programs `newuidmap` and `newgidmap` (package `uidmap`, `shadow-utils` or `shadow-subids`)"
    } else if step.starts_with("execute programs in") {
        "set `UNDOCKED_CACHE` to a folder on a file system that is mounted without `noexec`"
    } else if finding.optional {
        "functions run without it"
    } else {
        "sandboxes of the best isolation cannot be without it"
    };
    Some(advice.to_owned())
}

/// What gives functions a better isolation here: exact, for the surroundings that were recognised.
pub(super) fn of_machine(rungs: &[Rung], around: &Surroundings) -> Vec<String> {
    let is_full = rungs.iter().any(|rung| rung.isolation == Isolation::Full && matches!(rung.verdict, Verdict::Granted(_)));
    if is_full {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut say = |line: &str| lines.push(line.to_owned());
    if around.userns_switched_off {
        say("`sudo sysctl -w kernel.unprivileged_userns_clone=1`");
    }
    if around.no_userns_allowed {
        say("`sudo sysctl -w user.max_user_namespaces=15000`");
    }
    if around.are(Kind::AppArmor) {
        if around.are(Kind::GitHubActions) {
            say(
                "a step before: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (GitHub's machines have password-less sudo)",
            );
        } else {
            say(
                "`undocked doctor --print-apparmor-profile | sudo tee /etc/apparmor.d/undocked && sudo apparmor_parser -r /etc/apparmor.d/undocked`",
            );
        }
    }
    if around.are(Kind::GVisor) {
        say("gVisor lacks mount calls that a sandbox is made of: start this in another runtime class");
    }
    let options = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined";
    if around.are(Kind::Kubernetes) && !around.are(Kind::GitLab) {
        say(
            "`hostUsers: false` in the pod, and in the container's `securityContext` `procMount: Unmasked` and `seccompProfile` with type `Unconfined`, or type `Localhost` with the profile of `undocked doctor --print-seccomp-profile kubernetes`",
        );
    } else if around.are(Kind::GitLab) && around.in_container() {
        say(
            "in the runner's config.toml, `[runners.docker]`: `security_opt = [\"seccomp=unconfined\", \"apparmor=unconfined\", \"systempaths=unconfined\"]`, or `privileged = true`",
        );
    } else if around.are(Kind::Codespaces) {
        say(
            "in devcontainer.json: `\"runArgs\": [\"--security-opt\", \"seccomp=unconfined\", \"--security-opt\", \"systempaths=unconfined\"]`",
        );
    } else if around.are(Kind::GitHubActions) && around.in_container() {
        say(&format!("in the job's `container:`: `options: {options}`"));
    } else if around.are(Kind::Podman) {
        say("start the outer container with `--security-opt unmask=ALL` (and `--security-opt label=disable` under SELinux)");
    } else if around.in_container() {
        say(&format!("start the outer container with `{options}`"));
        say(
            "or, to keep a filter, with `--security-opt seccomp=FILE`, FILE being what `undocked doctor --print-seccomp-profile docker` prints",
        );
    }
    if around.label.as_deref().is_some_and(|label| label.contains("container_t")) {
        say("SELinux: start the outer container with `--security-opt label=disable`");
    }
    lines
}
