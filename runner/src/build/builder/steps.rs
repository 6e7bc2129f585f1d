//! One step of a stage.

use std::path::{Path, PathBuf};

use super::stage::{StageBuild, is_folder};
use super::{Builder, StepError};
use crate::build::config::clean;
use crate::build::copy;
use crate::build::dockerfile::{CommandForm, Health, Instruction, Step, Wrong};
use crate::build::keys::KeyText;
use crate::build::layer::{Content, Entries, Entry, LayerError};
use crate::build::words;

impl Builder<'_> {
    /// Carries a step of stage `number` out.
    pub(super) fn step_of(&mut self, build: &mut StageBuild, number: usize, step: &Step) -> Result<(), StepError> {
        match &step.instruction {
            Instruction::Copy(copy) => return self.copy(build, number, step, copy),
            Instruction::Run(run) => return self.run(build, number, run),
            Instruction::Workdir(path) => {
                let path = self.expanded(build, path)?;
                return self.workdir(build, &path);
            }
            Instruction::Arg(arguments) => return self.arguments(build, step, arguments),
            instruction => self.describe(build, instruction)?,
        }
        let text = self.shown(build, step)?;
        let key = KeyText::after(&build.key, "config").and(&text).and(build.spec.to_json()).key();
        build.took(key, &text, None);
        Ok(())
    }

    /// What changes the config alone.
    fn describe(&self, build: &mut StageBuild, instruction: &Instruction) -> Result<(), StepError> {
        match instruction {
            Instruction::Env(pairs) => {
                for (name, value) in self.pairs(build, pairs)? {
                    build.spec.set_variable(&name, &value);
                }
            }
            Instruction::Label(pairs) => {
                for (name, value) in self.pairs(build, pairs)? {
                    build.spec.set_label(&name, &value);
                }
            }
            Instruction::User(user) => {
                let user = self.expanded(build, user)?;
                build.spec.set_user(&user);
            }
            Instruction::Cmd(command) => build.spec.set_cmd(command),
            Instruction::Entrypoint(command) => build.spec.set_entrypoint(command),
            Instruction::Expose(ports) => {
                for port in self.all_expanded(build, ports)? {
                    port.split_whitespace().try_for_each(|port| build.spec.expose(port))?;
                }
            }
            Instruction::Shell(words) => build.spec.set_shell(words),
            Instruction::Volume(paths) => {
                for path in self.all_expanded(build, paths)? {
                    if path.is_empty() {
                        return Err(Wrong::new("`VOLUME` names no path").into());
                    }
                    build.spec.add_volume(&path);
                }
            }
            Instruction::StopSignal(signal) => {
                let signal = self.expanded(build, signal)?;
                build.spec.set_stop_signal(&signal);
            }
            Instruction::Healthcheck(health) => build.spec.set_health(health)?,
            Instruction::Maintainer(author) => build.spec.set_author(author),
            Instruction::Onbuild(instruction) => build.spec.add_trigger(instruction),
            Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_) | Instruction::Arg(_) => {}
        }
        Ok(())
    }

    /// The step as a history tells it: with what its variables held.
    fn shown(&self, build: &StageBuild, step: &Step) -> Result<String, StepError> {
        let joined = |word: &str, pairs: &[(String, String)]| {
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{word} {}", pairs.join(" "))
        };
        let command = |word: &str, command: &CommandForm| format!("{word} {}", json_words(&build.spec.words(command)));
        Ok(match &step.instruction {
            Instruction::Env(pairs) => joined("ENV", &self.values_after(build, pairs)?),
            Instruction::Label(pairs) => joined("LABEL", &self.pairs(build, pairs)?),
            Instruction::User(user) => format!("USER {}", self.expanded(build, user)?),
            Instruction::Cmd(form) => command("CMD", form),
            Instruction::Entrypoint(form) => command("ENTRYPOINT", form),
            Instruction::Expose(ports) => format!("EXPOSE {}", self.all_expanded(build, ports)?.join(" ")),
            Instruction::Volume(paths) => format!("VOLUME {}", json_words(&self.all_expanded(build, paths)?)),
            Instruction::Healthcheck(Health::None) => "HEALTHCHECK NONE".to_owned(),
            _ => step.text.clone(),
        })
    }

    /// What variables hold that were set just now.
    fn values_after(&self, build: &StageBuild, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, StepError> {
        let value = |(name, _): &(String, String)| -> Result<(String, String), StepError> {
            let name = self.expanded(build, name)?;
            let value = build.spec.variable(&name).unwrap_or_default();
            Ok((name, value))
        };
        pairs.iter().map(value).collect()
    }

    /// `ARG`: what is not used by a step makes no difference to it.
    fn arguments(&mut self, build: &mut StageBuild, step: &Step, arguments: &[(String, Option<String>)]) -> Result<(), StepError> {
        for (name, default) in arguments {
            let default = default.as_ref().map(|default| self.expanded(build, default)).transpose()?;
            self.scope.declare(name, default);
        }
        build.spec.done(&step.text, None);
        Ok(())
    }

    fn workdir(&self, build: &mut StageBuild, path: &str) -> Result<(), StepError> {
        if path.is_empty() {
            return Err(Wrong::new("`WORKDIR` names no path").into());
        }
        let path = build.spec.set_working_dir(path);
        let text = format!("WORKDIR {path}");
        let key = KeyText::after(&build.key, "workdir").and(&path).and(build.spec.user().unwrap_or_default()).key();
        let layer = match self.known(&key)? {
            Some(layer) => layer,
            None => {
                let user = build.spec.user().map(str::to_owned);
                let tree = build.tree(self.cache)?;
                // A name that the image does not know is found out when a command runs.
                let owner = user.and_then(|user| copy::owner(tree, &user).ok()).unwrap_or((0, 0));
                let entries =
                    missing_folders(tree, &path, owner).map_err(|source| LayerError::Read { path: path.clone().into(), source })?;
                self.made(build, entries)?
            }
        };
        self.keep(build, key, &text, layer)
    }

    /// Expands the variables of a word.
    pub(super) fn expanded(&self, build: &StageBuild, word: &str) -> Result<String, StepError> {
        Ok(words::expand(word, self.recipe.dockerfile.escape, &|name| self.value(build, name))?)
    }

    /// What a variable holds: those of the image are stronger than build arguments.
    pub(super) fn value(&self, build: &StageBuild, name: &str) -> Option<String> {
        build.spec.variable(name).or_else(|| self.scope.value(name))
    }

    fn all_expanded(&self, build: &StageBuild, words: &[String]) -> Result<Vec<String>, StepError> {
        words.iter().map(|word| self.expanded(build, word)).collect()
    }

    /// All are expanded before the first is set.
    fn pairs(&self, build: &StageBuild, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, StepError> {
        pairs.iter().map(|(name, value)| Ok((self.expanded(build, name)?, self.expanded(build, value)?))).collect()
    }
}

fn json_words(words: &[String]) -> String {
    serde_json::Value::from(words.to_vec()).to_string()
}

/// The folders on the way to a path that are not there.
fn missing_folders(tree: &crate::build::tree::Tree, path: &str, owner: (u32, u32)) -> std::io::Result<Entries> {
    let path = tree.resolve(Path::new(clean(path).trim_start_matches('/')))?;
    let mut entries = Entries::new();
    for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        if is_folder(tree, folder)? {
            break;
        }
        entries.insert(PathBuf::from(folder), Entry { content: Content::Directory, mode: 0o755, owner });
    }
    Ok(entries)
}
