//! Carries a Dockerfile out: stage by stage, step by step, from the cache where a step was done before.
//!
//! Knows neither sandboxes nor networks: [`Hands`] runs commands, finds images and downloads files.

use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

use rootfs_cache::digest::Digest;
use rootfs_cache::made::MadeImage;
use rootfs_cache::reference::{Platform, RegistryReference};
use rootfs_cache::rootfs::Rootfs;
use rootfs_cache::source::download::Address;
use rootfs_cache::store::{BuildResult, Cache};
use rootfs_cache::unpack::Limits;

use super::config::ImageSpec;
use super::context::Context;
use super::dockerfile::{Dockerfile, DockerfileError, Instruction, Mount, RunNetwork, Stage, Step, Wrong};
use super::keys;
use super::layer::{Entries, LayerError, MadeLayer, Maker};
use crate::exit_code::{ExitCode, Failure};
use crate::writable::WritableRoot;

mod add;
mod address;
mod below;
mod delta;
mod mounts;
mod run;
mod scope;
mod stage;
mod steps;

use scope::Scope;
use stage::StageBuild;

/// What is built, of what.
#[derive(Clone, Copy)]
pub struct Recipe<'a> {
    /// The Dockerfile.
    pub dockerfile: &'a Dockerfile,
    /// What it takes files from.
    pub context: &'a Context,
    /// The stage that is built, where it is not the last.
    pub target: Option<&'a str>,
    /// `--build-arg`.
    pub arguments: &'a [(String, String)],
    /// `--secret`: names with what they are.
    pub secrets: &'a [(String, Vec<u8>)],
    /// `--label`.
    pub labels: &'a [(String, String)],
    /// What the image is called.
    pub names: &'a [RegistryReference],
    /// What it is for.
    pub platform: &'a Platform,
    /// Whether steps that were done before are done again.
    pub reuse: Reuse,
    /// The time of all that is made, in seconds since 1970.
    pub epoch: u64,
}

/// Whether steps that were done before are done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Their results are taken.
    Cached,
    /// They are done again.
    Nothing,
}

/// A command of `RUN`.
#[derive(Debug, Clone)]
pub struct BuildCommand {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its variables.
    pub variables: Vec<(String, String)>,
    /// Who it runs as, as `USER` has it.
    pub user: Option<String>,
    /// Where it starts.
    pub working_dir: PathBuf,
    /// Folders of this machine that it sees.
    pub folders: Vec<ShownFolder>,
    /// Its network.
    pub network: RunNetwork,
}

/// A file or folder of this machine that a command sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownFolder {
    /// What.
    pub source: PathBuf,
    /// Where it is seen.
    pub target: PathBuf,
    /// Whether the command may write to it.
    pub writable: Writable,
}

/// Whether a command may write to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writable {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// A file that was downloaded. It has no name and goes with this value.
#[derive(Debug)]
pub struct Fetched {
    /// The file.
    pub file: File,
    /// The digest of what it holds.
    pub digest: Digest,
}

/// What a build has others do.
pub struct Hands<'a> {
    /// Runs a command in a root, and gives its exit status.
    pub run: &'a dyn Fn(&mut WritableRoot, BuildCommand) -> Result<i32, Failure>,
    /// Finds an image.
    pub find: &'a dyn Fn(&str, &Platform) -> Result<Rootfs, Failure>,
    /// Downloads a file.
    pub fetch: &'a dyn Fn(&Address) -> Result<Fetched, Failure>,
    /// Tells how it goes.
    pub say: &'a dyn Fn(&str),
    /// Whether a signal came.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// The digest of its config, which docker calls the image's id.
    pub id: Digest,
    /// The image.
    pub rootfs: Rootfs,
}

/// What a build is done with.
pub(super) struct Builder<'a> {
    recipe: Recipe<'a>,
    hands: &'a Hands<'a>,
    cache: &'a Cache,
    limits: &'a Limits,
    /// What the stages came to, by their numbers.
    done: Vec<Option<Rc<StageBuild>>>,
    scope: Scope,
    /// Steps that were begun, and steps there are.
    step: usize,
    steps: usize,
}

/// Builds the image.
pub fn build(recipe: Recipe<'_>, hands: &Hands<'_>, cache: &Cache, limits: &Limits) -> Result<Built, Failure> {
    let target = recipe.dockerfile.target(recipe.target).map_err(of_dockerfile)?;
    let needed = needed(recipe.dockerfile, target);
    let stages = &recipe.dockerfile.stages;
    let steps = needed.iter().map(|number| stages[*number].steps.len() + 1).sum::<usize>() + usize::from(!recipe.labels.is_empty());
    let scope = Scope::new(recipe.dockerfile, recipe.arguments, recipe.platform).map_err(of_dockerfile)?;
    let mut builder = Builder { recipe, hands, cache, limits, done: vec![None; stages.len()], scope, step: 0, steps };
    for number in needed {
        let stage = builder.stage(&stages[number])?;
        builder.done[number] = Some(Rc::new(stage));
    }
    for unused in builder.scope.unused() {
        (hands.say)(&format!("[Warning] One or more build-args [{unused}] were not consumed"));
    }
    let stage =
        builder.done[target].take().and_then(|stage| Rc::try_unwrap(stage).ok()).expect("the target is done, and nobody else holds it");
    builder.finish(stage)
}

/// The stages that the target is made of, in their order.
fn needed(dockerfile: &Dockerfile, target: usize) -> Vec<usize> {
    let mut wanted = vec![target];
    let mut at = 0;
    while let Some(number) = wanted.get(at).copied() {
        let stage = &dockerfile.stages[number];
        let copied = stage.steps.iter().flat_map(|step| match &step.instruction {
            Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
            Instruction::Run(run) => run.mounts.iter().filter_map(Mount::from).collect(),
            _ => Vec::new(),
        });
        let from = copied.filter_map(|from| earlier(dockerfile, number, from, ByNumber::Yes)).chain(earlier(
            dockerfile,
            number,
            &stage.base,
            ByNumber::No,
        ));
        for number in from {
            if !wanted.contains(&number) {
                wanted.push(number);
            }
        }
        at += 1;
    }
    wanted.sort_unstable();
    wanted
}

/// Whether a stage may be meant by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByNumber {
    Yes,
    No,
}

/// The stage before `before` that is meant.
fn earlier(dockerfile: &Dockerfile, before: usize, name: &str, by_number: ByNumber) -> Option<usize> {
    let lower = name.to_lowercase();
    let named = dockerfile.stages[..before].iter().rposition(|stage| stage.name.as_deref() == Some(&lower));
    let numbered = || name.parse().ok().filter(|number| by_number == ByNumber::Yes && *number < before);
    named.or_else(numbered)
}

/// What the Dockerfile is to blame for ends as docker's does.
fn of_dockerfile(error: DockerfileError) -> Failure {
    let hint = error.hint.clone();
    Failure::could_not_run(error).with_hint(hint).with_code(ExitCode::FUNCTION_FAILED)
}

impl<'a> Builder<'a> {
    fn stage(&mut self, stage: &Stage) -> Result<StageBuild, Failure> {
        self.begin(&stage.text);
        let number = self.recipe.dockerfile.stages.iter().position(|other| std::ptr::eq(other, stage)).unwrap_or(0);
        let wrong = |wrong: Wrong| of_dockerfile(wrong.at(&self.recipe.dockerfile.name, stage.line));
        let base = self.scope.of_file(&stage.base, self.recipe.dockerfile.escape).map_err(wrong)?;
        if base.is_empty() {
            return Err(wrong(Wrong::hint(
                format!("`{}` is nothing: no image is named", stage.base),
                "give its `ARG` a default, or `--build-arg`",
            )));
        }
        let platform = match &stage.platform {
            None => self.recipe.platform.clone(),
            Some(text) => {
                let text = self.scope.of_file(text, self.recipe.dockerfile.escape).map_err(wrong)?;
                text.parse().map_err(|error: rootfs_cache::reference::ParseReferenceError| wrong(Wrong::new(error.to_string())))?
            }
        };
        let mut build = match earlier(self.recipe.dockerfile, number, &base, ByNumber::No) {
            Some(earlier) => StageBuild::upon(self.done[earlier].as_deref().expect("a stage that another starts from is done first")),
            None if base == "scratch" => StageBuild::scratch(&platform, self.recipe.epoch),
            None => {
                let rootfs = (self.hands.find)(&base, &platform).map_err(|failure| failure.in_front(&self.place(stage.line)))?;
                StageBuild::of_image(rootfs, self.cache, &platform, self.recipe.epoch)?
            }
        };
        self.scope.enter_stage();
        self.show(&build);
        let triggers = build.spec.take_triggers();
        if !triggers.is_empty() {
            (self.hands.say)(&format!("# Executing {} build trigger{}", triggers.len(), if triggers.len() == 1 { "" } else { "s" }));
            self.steps += triggers.len();
            for step in Dockerfile::parse_triggers("ONBUILD", &triggers).map_err(of_dockerfile)? {
                let step = Step { line: stage.line, ..step };
                self.carry_out(&mut build, number, &step)?;
            }
        }
        for step in &stage.steps {
            self.carry_out(&mut build, number, step)?;
        }
        build.close();
        Ok(build)
    }

    fn carry_out(&mut self, build: &mut StageBuild, number: usize, step: &Step) -> Result<(), Failure> {
        if (self.hands.interrupted)() {
            return Err(Failure::could_not_run("interrupted"));
        }
        self.begin(&step.text);
        let place = self.place(step.line);
        self.step_of(build, number, step).map_err(|failed| failed.at(&place))?;
        self.show(build);
        Ok(())
    }

    fn begin(&mut self, text: &str) {
        self.step += 1;
        (self.hands.say)(&format!("Step {}/{} : {text}", self.step, self.steps));
    }

    fn show(&self, build: &StageBuild) {
        (self.hands.say)(&format!(" ---> {}", &Digest::of(&build.spec.to_json()).hex()[..12]));
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.recipe.dockerfile.name)
    }

    fn maker(&self) -> Maker<'a> {
        Maker { cache: self.cache, epoch: self.recipe.epoch, limits: self.limits, interrupted: self.hands.interrupted }
    }

    /// The layer that changes a stage by these entries.
    fn made(&self, build: &mut StageBuild, entries: Entries) -> Result<Option<MadeLayer>, StepError> {
        if entries.is_empty() {
            return Ok(None);
        }
        let entries = build.with_folders(self.cache, entries)?;
        Ok(Some(self.maker().make(&entries)?))
    }

    /// What the step with this key came to before, where that may be taken.
    fn known(&self, key: &Digest) -> Result<Option<Option<MadeLayer>>, StepError> {
        if self.recipe.reuse == Reuse::Nothing {
            return Ok(None);
        }
        let Some(result) = self.cache.build_result(key).map_err(LayerError::Cache)? else { return Ok(None) };
        let layer = match result.layer {
            None => None,
            Some(built) => match self.cache.layer(&built.digest).map_err(LayerError::Cache)? {
                Some(stored) => Some(MadeLayer::of(built, stored)),
                None => return Ok(None),
            },
        };
        (self.hands.say)(" ---> Using cache");
        Ok(Some(layer))
    }

    /// Keeps what a step came to, and makes it part of the stage.
    fn keep(&self, build: &mut StageBuild, key: Digest, created_by: &str, layer: Option<MadeLayer>) -> Result<(), StepError> {
        let result = BuildResult { layer: layer.as_ref().map(|layer| layer.built.clone()) };
        self.cache.set_build_result(&key, &result).map_err(LayerError::Cache)?;
        build.took(key, created_by, layer);
        Ok(())
    }

    fn finish(&mut self, mut stage: StageBuild) -> Result<Built, Failure> {
        if !self.recipe.labels.is_empty() {
            let labels: Vec<String> = self.recipe.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let text = format!("LABEL {}", labels.join(" "));
            self.begin(&text);
            for (name, value) in self.recipe.labels {
                stage.spec.set_label(name, value);
            }
            stage.spec.done(&text, None);
            self.show(&stage);
        }
        let config = stage.spec.to_json();
        let layers = stage.descriptors();
        if layers.is_empty() {
            let failure =
                Failure::could_not_run("the image would have no file at all, and is not made").with_code(ExitCode::FUNCTION_FAILED);
            return Err(failure.with_hint(Some("`COPY` something into it".to_owned())));
        }
        let image = MadeImage { config: &config, layers: &layers, names: self.recipe.names };
        let rootfs = self.cache.add_image(&image, self.limits).map_err(|error| {
            let hint = error.hint();
            Failure::could_not_run(error).with_hint(hint)
        })?;
        Ok(Built { id: Digest::of(&config), rootfs })
    }
}

/// Why a step was not done.
enum StepError {
    /// The instruction is to blame.
    Wrong(Wrong),
    /// A layer could not be made.
    Layer(LayerError),
    /// Anything else, told as it is.
    Failed(Failure),
}

impl From<LayerError> for StepError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl From<Wrong> for StepError {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<super::copy::CopyError> for StepError {
    fn from(error: super::copy::CopyError) -> Self {
        match error {
            super::copy::CopyError::Wrong(wrong) => Self::Wrong(wrong),
            super::copy::CopyError::Layer(error) => Self::Layer(error),
        }
    }
}

impl StepError {
    fn at(self, place: &str) -> Failure {
        match self {
            Self::Wrong(Wrong { what, hint }) => {
                Failure::could_not_run(what).with_hint(hint).with_code(ExitCode::FUNCTION_FAILED).in_front(place)
            }
            Self::Failed(failure) => failure.in_front(place),
            Self::Layer(error) => {
                let hint = error.hint();
                Failure::could_not_run(error).with_hint(hint).in_front(place)
            }
        }
    }
}

/// The key that a stage upon an image begins with.
fn start_key(base: &str, platform: &Platform, epoch: u64) -> Digest {
    keys::start(base, &platform.to_string(), epoch)
}

/// The time of what is made.
fn time(epoch: u64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_secs(epoch)
}

/// A config being made, of an image in the cache.
fn spec_of(cache: &Cache, rootfs: &Rootfs, epoch: u64) -> Result<(ImageSpec, Digest, Vec<rootfs_cache::manifest::Descriptor>), Failure> {
    let manifest = rootfs.manifest_digest();
    let documents = cache.documents(manifest).map_err(Failure::could_not_run)?;
    let documents = documents.ok_or_else(|| Failure::could_not_run(format!("image {manifest} is no longer in the cache")))?;
    let layers = rootfs_cache::manifest::Manifest::from_json(&documents.manifest).map_err(Failure::could_not_run)?.layers;
    let layers = layers.iter().map(rootfs_cache::manifest::to_oci).collect();
    let spec = ImageSpec::of_image(&documents.config, &rootfs.config().diff_ids, time(epoch)).map_err(Failure::could_not_run)?;
    Ok((spec, Digest::of(&documents.config), layers))
}
