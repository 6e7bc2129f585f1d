//! `undocked doctor`: tries every launch step and prints what the kernel granted, with a line of advice for what it refused.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::print;
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::probe::{self, Finding, Verdict};
use crate::sandbox::shipped_filter;

/// Prints the findings as text or as one JSON object. Exit code 0 when functions can run here, 1 when not.
pub fn run(json: bool) -> Result<ExitCode, Failure> {
    let findings = probe::findings(shipped_filter());
    let signs = Signs::read();
    let works = !findings.iter().any(Finding::is_fatal);
    let text = if json { as_json(&findings, &signs, works) } else { as_text(&findings, &signs, works) };
    print(text.as_bytes())?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FUNCTION_FAILED })
}

/// What this machine says of itself, which decides the advice.
#[derive(Debug, Default)]
struct Signs {
    apparmor_restricts: bool,
    userns_switched_off: bool,
    no_userns_allowed: bool,
    in_container: bool,
    filtered: bool,
    kernel: String,
}

impl Signs {
    fn read() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
            userns_switched_off: number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0),
            no_userns_allowed: number("/proc/sys/user/max_user_namespaces") == Some(0),
            in_container: ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists()),
            filtered: status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// One line of advice for a step that was refused.
fn advice(finding: &Finding, signs: &Signs) -> Option<String> {
    let Verdict::Refused(_) = finding.verdict else { return None };
    let step = finding.step.as_str();
    let namespaces = step == "clone into new namespaces" || step.starts_with("write /proc/self/") || step == "make mounts private";
    let advice = if namespaces && signs.userns_switched_off {
        "user namespaces are switched off: `sudo sysctl -w kernel.unprivileged_userns_clone=1`"
    } else if namespaces && signs.no_userns_allowed {
        "no user namespace is allowed: `sudo sysctl -w user.max_user_namespaces=15000`"
    } else if namespaces && signs.apparmor_restricts {
        "AppArmor forbids them to ordinary users: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or a profile for this program with `userns,`"
    } else if (namespaces || step.starts_with("mount") || step.contains("pivot_root")) && (signs.in_container || signs.filtered) {
        "an outer container forbids it: start that with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`"
    } else if step.contains("Landlock") {
        "functions run without it; Linux 5.13 and later have it, when `landlock` is among the modules of `/sys/kernel/security/lsm`"
    } else if step.contains("close_range") || step.contains("open_tree") {
        "Linux 5.12 or later is needed"
    } else if finding.optional {
        "functions run without it"
    } else {
        "functions cannot run without it on this machine"
    };
    Some(advice.to_owned())
}

fn as_text(findings: &[Finding], signs: &Signs, works: bool) -> String {
    let mut text = format!("undocked {} on Linux {}\n", env!("CARGO_PKG_VERSION"), signs.kernel);
    for finding in findings {
        let step = &finding.step;
        match &finding.verdict {
            Verdict::Granted(None) => text += &format!("  ok       {step}\n"),
            Verdict::Granted(Some(how)) => text += &format!("  ok       {step}: {how}\n"),
            Verdict::Refused(why) => text += &format!("  REFUSED  {step}: {why}\n"),
            Verdict::NotTried => text += &format!("  -        {step}: not tried\n"),
        }
        text += &advice(finding, signs).map_or_else(String::new, |advice| format!("           hint: {advice}\n"));
    }
    text + if works { "Functions can run here.\n" } else { "Functions cannot run here.\n" }
}

fn as_json(findings: &[Finding], signs: &Signs, works: bool) -> String {
    let steps = findings.iter().map(|finding| {
        let (verdict, detail) = match &finding.verdict {
            Verdict::Granted(how) => ("granted", how.clone()),
            Verdict::Refused(why) => ("refused", Some(why.clone())),
            Verdict::NotTried => ("not tried", None),
        };
        json!({"step": finding.step, "verdict": verdict, "detail": detail, "optional": finding.optional, "hint": advice(finding, signs)})
    });
    format!("{}\n", json!({"version": 1, "functionsCanRun": works, "kernel": signs.kernel, "steps": steps.collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: &str, optional: bool) -> Finding {
        Finding { step: step.into(), verdict: Verdict::Refused("Operation not permitted".into()), optional }
    }

    #[test]
    fn advice_fits_the_machine() {
        let clone = refused("clone into new namespaces", false);
        for (signs, word) in [
            (Signs { userns_switched_off: true, ..Signs::default() }, "unprivileged_userns_clone=1"),
            (Signs { no_userns_allowed: true, ..Signs::default() }, "max_user_namespaces"),
            (Signs { apparmor_restricts: true, ..Signs::default() }, "apparmor_restrict_unprivileged_userns=0"),
            (Signs { in_container: true, ..Signs::default() }, "seccomp=unconfined"),
            (Signs::default(), "cannot run"),
        ] {
            let advice = advice(&clone, &signs).unwrap();
            assert!(advice.contains(word), "{advice}");
        }
        assert!(advice(&refused("set the host name", true), &Signs::default()).unwrap().contains("run without it"));
        assert_eq!(advice(&Finding { step: "x".into(), verdict: Verdict::Granted(None), optional: false }, &Signs::default()), None);
    }

    #[test]
    fn says_each_step_and_the_whole() {
        let findings = [refused("mount /proc", false), Finding { step: "b".into(), verdict: Verdict::NotTried, optional: true }];
        let text = as_text(&findings, &Signs::default(), false);
        assert!(text.contains("  REFUSED  mount /proc: Operation not permitted\n           hint: "), "{text}");
        assert!(text.ends_with("  -        b: not tried\nFunctions cannot run here.\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings, &Signs::default(), false)).unwrap();
        assert_eq!((json["functionsCanRun"].as_bool(), json["steps"][0]["verdict"].as_str()), (Some(false), Some("refused")));
    }
}
