//! `RUN`.

use std::path::{Path, PathBuf};

use super::delta::{DeltaError, Snapshot};
use super::mounts;
use super::stage::{RootError, StageBuild};
use super::{BuildCommand, Builder, StepError};
use crate::build::dockerfile::{CommandForm, RunStep, ShellText, Wrong};
use crate::build::keys::KeyText;
use crate::exit_code::{ExitCode, Failure};
use crate::writable::WritableError;

/// Where a here-document that is a program lies while it runs.
const SCRIPT: &str = ".undocked-run";

impl Builder<'_> {
    pub(super) fn run(&mut self, build: &mut StageBuild, number: usize, run: &RunStep) -> Result<(), StepError> {
        let words = match &run.command {
            ShellText::Command(command) => build.spec.words(command),
            ShellText::Script(_) => vec![format!("/{SCRIPT}")],
        };
        if words.first().is_none_or(|program| program.is_empty()) {
            return Err(Wrong::new("`RUN` has nothing to run").into());
        }
        // Variables of the image are stronger, and told by the key before.
        let arguments: Vec<(String, String)> =
            self.scope.values().into_iter().filter(|(name, _)| build.spec.variable(name).is_none()).collect();
        let told = told(run, &words, &arguments);
        let key = self.run_key((build, number), run, &words, &arguments)?;
        if let Some(layer) = self.known(&key)? {
            return self.keep(build, key, &told, layer);
        }
        let mounts = self.mounts(build, number, &run.mounts)?;
        let mut variables = self.run_variables(build, arguments);
        variables.extend(mounts.variables);
        let command = BuildCommand {
            variables,
            user: build.spec.user().map(str::to_owned),
            working_dir: build.spec.working_dir().into(),
            network: run.network,
            words,
            folders: mounts.shown,
        };
        let targets: Vec<PathBuf> = command.folders.iter().map(|folder| folder.target.clone()).collect();
        (self.hands.say)(&format!(" ---> Running in {}", &key.hex()[..12]));
        let before = build.tree(self.cache)?.clone();
        let Some(root) = build.root(self.cache)? else {
            return Err(
                Wrong::hint("`RUN` in a stage from `scratch` is not supported", "run it in another stage, and `COPY --from` it").into()
            );
        };
        if let ShellText::Script(text) = &run.command {
            root.put(Path::new(SCRIPT), &mut text.as_bytes(), 0o755).map_err(of_root)?;
        }
        let snapshot = Snapshot::take(root)?;
        let shown = command.words.join(" ");
        let status = (self.hands.run)(root, command).map_err(StepError::Failed)?;
        if status != 0 {
            let failure = Failure::could_not_run(format!("The command '{shown}' returned a non-zero code: {status}"));
            return Err(StepError::Failed(failure.with_code(ExitCode::FUNCTION_FAILED)));
        }
        if let ShellText::Script(_) = &run.command {
            root.remove_path(Path::new(SCRIPT)).map_err(of_root)?;
        }
        mounts::remove_places(root, &before, &targets)?;
        let entries = Snapshot::take(root)?.since(&snapshot, &before)?;
        let layer = self.made(build, entries)?;
        self.keep(build, key, &told, layer)?;
        build.root_has_all();
        Ok(())
    }

    fn run_key(
        &self,
        (build, number): (&StageBuild, usize),
        run: &RunStep,
        words: &[String],
        arguments: &[(String, String)],
    ) -> Result<rootfs_cache::digest::Digest, StepError> {
        let mut key = words.iter().fold(KeyText::after(&build.key, "run"), |key, word| key.and(word));
        if let ShellText::Script(text) = &run.command {
            key = key.and("script").and(text);
        }
        let mut sorted = arguments.to_vec();
        sorted.sort();
        key = sorted.iter().fold(key.and("arguments"), |key, (name, value)| key.and(name).and(value));
        for mount in &run.mounts {
            key = self.mount_key(key.and("mount"), build, number, mount)?;
        }
        Ok(key.key())
    }

    /// Build arguments, and over them the image's own.
    fn run_variables(&self, build: &StageBuild, arguments: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut variables = self.scope.predefined();
        // Programs that write times into what they make take it; python compiles to files then that hold for any time.
        variables.push(("SOURCE_DATE_EPOCH".to_owned(), self.recipe.epoch.to_string()));
        for (name, value) in arguments.into_iter().chain(build.spec.variables()) {
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
        }
        variables
    }
}

/// The step as a history tells it.
fn told(run: &RunStep, words: &[String], arguments: &[(String, String)]) -> String {
    let command = match &run.command {
        ShellText::Command(CommandForm::Exec(_)) | ShellText::Script(_) => words.join(" "),
        ShellText::Command(CommandForm::Shell(_)) => words.join(" "),
    };
    let arguments: Vec<String> = arguments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    match arguments.len() {
        0 => format!("RUN {command}"),
        count => format!("RUN |{count} {} {command}", arguments.join(" ")),
    }
}

pub(super) fn of_root(error: WritableError) -> StepError {
    let hint = error.hint();
    StepError::Failed(Failure::could_not_run(error).with_hint(hint))
}

impl From<RootError> for StepError {
    fn from(error: RootError) -> Self {
        match error {
            RootError::Layer(error) => Self::Layer(error),
            RootError::Root(error) => of_root(error),
        }
    }
}

impl From<DeltaError> for StepError {
    fn from(error: DeltaError) -> Self {
        match error {
            DeltaError::Layer(error) => Self::Layer(error),
            DeltaError::Root(error) => of_root(error),
        }
    }
}
