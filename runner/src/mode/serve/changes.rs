//! The files whose change has functions start anew: their code and their layers.

use std::path::{Path, PathBuf};

use crate::config::{Changes, RunConfig, ServeConfig};
use crate::exit_code::chain;
use crate::report::Report;
use crate::watch::{WatchError, Watcher};

/// A watcher, or none where nobody wants one.
pub(super) struct CodeWatcher(Option<Watcher>);

impl CodeWatcher {
    /// Watches what the functions of `config` are made of, if that is asked for.
    pub(super) fn new(config: &ServeConfig, report: &mut Report) -> Self {
        if config.keeping.changes == Changes::Ignore {
            return Self(None);
        }
        let roots: Vec<PathBuf> = config.functions.iter().flat_map(|served| code(&served.run)).collect();
        match Watcher::new(&roots) {
            Ok(watcher) => {
                let mut watcher = Self(Some(watcher));
                watcher.tell_trouble(report);
                watcher
            }
            Err(error) => {
                say(&error, report);
                Self(None)
            }
        }
    }

    /// Waits for a change. May be dropped and called anew at any time.
    pub(super) async fn changed(&mut self) {
        match &mut self.0 {
            Some(watcher) => {
                watcher.changed().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Says what cannot be watched, once.
    pub(super) fn tell_trouble(&mut self, report: &mut Report) {
        if let Some(error) = self.0.as_mut().and_then(Watcher::trouble) {
            say(&error, report);
        }
    }
}

fn say(error: &WatchError, report: &mut Report) {
    report.note(&format!("undocked: {}\nhint: {}", chain(error), error.hint()));
}

fn code(run: &RunConfig) -> impl Iterator<Item = PathBuf> {
    let is_code = |target: &Path| target.starts_with("/var/task") || target.starts_with("/opt");
    let volumes = run.volumes.iter().filter(move |volume| is_code(&volume.target)).map(|volume| volume.source.clone());
    volumes.chain(run.layers.iter().cloned())
}
