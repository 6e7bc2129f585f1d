//! `undocked doctor`: tries every launch step and every isolation, and prints what the kernel granted, with advice for what it refused.

use serde_json::{Value, json};

use super::print;
use crate::config::{DoctorSubject, ImageSource};
use crate::exit_code::{ExitCode, Failure};
use crate::sandbox::probe::{self, Finding, Rung, Verdict};
use crate::sandbox::{Isolation, run_folder, shipped_filter};

mod advice;
mod profiles;
mod surroundings;

use surroundings::{Kind, Surroundings};

/// Prints what is asked for. Of findings the exit code is 0 when functions can run here, 1 when not. `variables` are the names of those of our own
/// variables that tell of a service.
pub fn run(subject: DoctorSubject, source: &ImageSource, variables: &[&'static str]) -> Result<ExitCode, Failure> {
    match subject {
        DoctorSubject::Text | DoctorSubject::Json => {
            let diagnosis = Diagnosis::make(source, variables);
            let text = if subject == DoctorSubject::Json { format!("{}\n", diagnosis.as_json()) } else { diagnosis.as_text() };
            print(text.as_bytes())?;
            Ok(if diagnosis.works() { ExitCode::SUCCESS } else { ExitCode::FUNCTION_FAILED })
        }
        DoctorSubject::AppArmorProfile => {
            let own = std::env::current_exe().map_err(Failure::could_not_run)?;
            print(profiles::apparmor(&own.display().to_string()).as_bytes()).map(|()| ExitCode::SUCCESS)
        }
        DoctorSubject::SeccompProfile(reader) => {
            super::shell::say(profiles::seccomp_use(reader));
            print(format!("{:#}\n", profiles::seccomp()).as_bytes()).map(|()| ExitCode::SUCCESS)
        }
    }
}

struct Diagnosis {
    steps: Vec<Finding>,
    rungs: Vec<Rung>,
    rest: Vec<Finding>,
    around: Surroundings,
}

impl Diagnosis {
    fn make(source: &ImageSource, variables: &[&'static str]) -> Self {
        let filter = shipped_filter();
        let cache = source.cache.as_deref();
        let mut rest = vec![probe::network(&filter)];
        rest.extend(probe::calls());
        rest.extend(probe::rest(cache));
        Self {
            steps: probe::findings(filter.clone()),
            rungs: probe::rungs(&filter, cache.map(run_folder::parent)),
            rest,
            around: Surroundings::read(variables),
        }
    }

    /// The isolation of functions of images.
    fn isolation(&self) -> Option<Isolation> {
        self.best(|isolation| isolation != Isolation::InPlace)
    }

    /// The isolation of functions of this machine's userland.
    fn isolation_on_host(&self) -> Option<Isolation> {
        self.best(|isolation| isolation != Isolation::Chroot)
    }

    fn best(&self, suits: fn(Isolation) -> bool) -> Option<Isolation> {
        let granted = |rung: &&Rung| matches!(rung.verdict, Verdict::Granted(_));
        self.rungs.iter().filter(granted).map(|rung| rung.isolation).find(|isolation| suits(*isolation))
    }

    /// In place functions run whose userland this machine has; that is what a Lambda base image is for.
    fn works(&self) -> bool {
        let can_start = !self.rest.iter().any(Finding::is_fatal);
        can_start && (self.isolation().is_some() || (self.isolation_on_host().is_some() && self.around.are(Kind::LambdaImage)))
    }

    fn summary(&self) -> String {
        let hosts = |isolation| format!("functions of this machine's own userland (`undocked run host`) with isolation `{isolation}`");
        match (self.works(), self.isolation(), self.isolation_on_host()) {
            (true, Some(isolation), Some(host)) if isolation == host => format!("Functions can run here, with isolation `{isolation}`."),
            (true, Some(isolation), Some(host)) => format!("Functions can run here, with isolation `{isolation}`; {}.", hosts(host)),
            (true, Some(isolation), None) => format!("Functions can run here, with isolation `{isolation}`."),
            (true, None, Some(host)) => format!("Functions can run here: {}.", hosts(host)),
            (false, None, Some(host)) => format!("Functions of images cannot run here; only {}.", hosts(host)),
            _ => "Functions cannot run here.".to_owned(),
        }
    }

    fn as_text(&self) -> String {
        let mut text = format!("undocked {} on Linux {}\n", env!("CARGO_PKG_VERSION"), self.around.kernel);
        if !self.around.kinds.is_empty() {
            let kinds: Vec<String> = self.around.kinds.iter().map(Kind::to_string).collect();
            text += &format!("recognised: {}\n", kinds.join(", "));
        }
        text += "steps of the best isolation:\n";
        self.steps.iter().for_each(|finding| text += &self.line(finding));
        text += "isolations:\n";
        for rung in &self.rungs {
            text += &line(&rung.verdict, rung.isolation.name());
        }
        text += "beside these:\n";
        self.rest.iter().for_each(|finding| text += &self.line(finding));
        for advice in advice::of_machine(&self.rungs, &self.around) {
            text += &format!("for a better isolation: {advice}\n");
        }
        text + &self.summary() + "\n"
    }

    fn line(&self, finding: &Finding) -> String {
        let hint = advice::of_step(finding, &self.around).map_or_else(String::new, |advice| format!("           hint: {advice}\n"));
        line(&finding.verdict, &finding.step) + &hint
    }

    fn as_json(&self) -> Value {
        let list = |findings: &[Finding]| findings.iter().map(|finding| self.finding(finding)).collect::<Vec<_>>();
        let rungs = self.rungs.iter().map(|rung| {
            let (verdict, detail) = words(&rung.verdict);
            json!({"isolation": rung.isolation.name(), "verdict": verdict, "detail": detail, "protectsLess": rung.isolation.lacks()})
        });
        json!({
            "version": 2,
            "functionsCanRun": self.works(),
            "isolation": self.isolation().map(Isolation::name),
            "isolationOnHost": self.isolation_on_host().map(Isolation::name),
            "kernel": self.around.kernel,
            "user": self.around.user,
            "recognised": self.around.kinds.iter().map(Kind::to_string).collect::<Vec<_>>(),
            "steps": list(&self.steps),
            "isolations": rungs.collect::<Vec<_>>(),
            "rest": list(&self.rest),
            "advice": advice::of_machine(&self.rungs, &self.around),
        })
    }

    fn finding(&self, finding: &Finding) -> Value {
        let (verdict, detail) = words(&finding.verdict);
        let hint = advice::of_step(finding, &self.around);
        json!({"step": finding.step, "verdict": verdict, "detail": detail, "optional": finding.optional, "hint": hint})
    }
}

fn line(verdict: &Verdict, what: &str) -> String {
    match verdict {
        Verdict::Granted(None) => format!("  ok       {what}\n"),
        Verdict::Granted(Some(how)) => format!("  ok       {what}: {how}\n"),
        Verdict::Refused(why) => format!("  REFUSED  {what}: {why}\n"),
        Verdict::NotTried => format!("  -        {what}: not tried\n"),
    }
}

fn words(verdict: &Verdict) -> (&'static str, Option<String>) {
    match verdict {
        Verdict::Granted(how) => ("granted", how.clone()),
        Verdict::Refused(why) => ("refused", Some(why.clone())),
        Verdict::NotTried => ("not tried", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: &str, optional: bool) -> Finding {
        Finding { step: step.into(), verdict: Verdict::Refused("Operation not permitted".into()), optional }
    }

    fn rungs(granted: &[Isolation]) -> Vec<Rung> {
        let verdict = |isolation| {
            if granted.contains(&isolation) { Verdict::Granted(None) } else { Verdict::Refused("no".into()) }
        };
        Isolation::ALL.map(|isolation| Rung { isolation, verdict: verdict(isolation) }).into()
    }

    fn diagnosis(granted: &[Isolation], kinds: &[Kind]) -> Diagnosis {
        let around = Surroundings { kinds: kinds.to_vec(), ..Surroundings::default() };
        let steps = vec![refused("mount /proc", false), Finding { step: "b".into(), verdict: Verdict::NotTried, optional: true }];
        Diagnosis { steps, rungs: rungs(granted), rest: Vec::new(), around }
    }

    #[test]
    fn advice_fits_the_machine() {
        let clone = refused("clone into new namespaces", false);
        let kinds = |kinds: &[Kind]| Surroundings { kinds: kinds.to_vec(), ..Surroundings::default() };
        for (around, word) in [
            (Surroundings { userns_switched_off: true, ..Surroundings::default() }, "unprivileged_userns_clone=1"),
            (Surroundings { no_userns_allowed: true, ..Surroundings::default() }, "max_user_namespaces"),
            (kinds(&[Kind::AppArmor]), "apparmor_restrict_unprivileged_userns=0"),
            (kinds(&[Kind::Docker]), "outer container"),
            (Surroundings::default(), "cannot be without"),
        ] {
            let advice = advice::of_step(&clone, &around).unwrap();
            assert!(advice.contains(word), "{advice}");
        }
        for (given, word) in [
            (&[Kind::AppArmor, Kind::GitHubActions][..], "password-less sudo"),
            (&[Kind::AppArmor], "--print-apparmor-profile"),
            (&[Kind::Docker], "--security-opt seccomp=unconfined"),
            (&[Kind::GitLab, Kind::Docker], "config.toml"),
            (&[Kind::GitHubActions, Kind::Docker], "`options: --security-opt"),
            (&[Kind::Codespaces, Kind::Docker], "runArgs"),
            (&[Kind::Kubernetes], "procMount: Unmasked"),
            (&[Kind::Podman], "unmask=ALL"),
            (&[Kind::GVisor], "gVisor"),
        ] {
            let advice = advice::of_machine(&rungs(&[]), &kinds(given)).join("\n");
            assert!(advice.contains(word), "{given:?}: {advice}");
        }
        assert!(advice::of_machine(&rungs(&[Isolation::Full]), &kinds(&[Kind::Docker])).is_empty());
    }

    #[test]
    fn says_each_step_and_the_whole() {
        let none = diagnosis(&[], &[]);
        let text = none.as_text();
        assert!(text.contains("  REFUSED  mount /proc: Operation not permitted\n           hint: "), "{text}");
        assert!(text.contains("  -        b: not tried\n") && text.ends_with("Functions cannot run here.\n"), "{text}");
        let json = none.as_json();
        assert_eq!((json["functionsCanRun"].as_bool(), json["steps"][0]["verdict"].as_str()), (Some(false), Some("refused")));
    }

    #[test]
    fn functions_of_images_need_a_root_of_their_own() {
        use Isolation::{Chroot, Full, InPlace, ProcBind};
        for (granted, kinds, works, isolation) in [
            (&[Full, ProcBind, InPlace][..], &[][..], true, Some(Full)),
            (&[Chroot, InPlace], &[Kind::Docker], true, Some(Chroot)),
            (&[InPlace], &[Kind::Docker], false, None),
            (&[InPlace], &[Kind::LambdaImage], true, None),
        ] {
            let diagnosis = diagnosis(granted, kinds);
            assert_eq!((diagnosis.works(), diagnosis.isolation()), (works, isolation), "{granted:?}");
            assert!(works != diagnosis.summary().contains("cannot"), "{}", diagnosis.summary());
        }
    }
}
