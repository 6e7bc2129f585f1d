//! How a server queues events, and what its queue is known by.

use std::os::unix::ffi::OsStrExt;

use rootfs_cache::digest::Digest;

use crate::config::{EventsConfig, RunConfig, ServeConfig};
use crate::fleet::{EventOptions, EventPlace};
use crate::function::events::EventRules;

/// So much of a function's name is in the name of its server's queue.
const NAME_CHARACTERS: usize = 40;
/// So much of a digest tells servers apart.
const DIGEST_CHARACTERS: usize = 16;

/// What becomes of the events of each function.
pub(super) fn rules(config: &EventsConfig) -> EventRules {
    let aws = EventRules::default();
    EventRules {
        max_retries: config.retries.unwrap_or(aws.max_retries),
        max_age: config.max_age.unwrap_or(aws.max_age),
        on_success: config.on_success.clone(),
        on_failure: config.on_failure.clone(),
        dead_letter: config.dead_letter.clone(),
    }
}

/// Where they are queued. `name` is that of the first function.
pub(super) fn options(config: &ServeConfig, name: &str) -> EventOptions {
    let aws = EventOptions::default();
    let place = config.events.folder.clone().map(|folder| EventPlace { folder, server: server(config, name) });
    EventOptions { place, retry_delay: config.events.retry_delay.unwrap_or(aws.retry_delay), ..aws }
}

/// The same for the same command again, so that a server finds the events that it left.
fn server(config: &ServeConfig, name: &str) -> String {
    let mut known_by = Vec::new();
    match &config.events.described_by {
        Some(file) => known_by.push(file.as_os_str().as_bytes().to_vec()),
        None => config.functions.iter().for_each(|served| known_by.extend(what_runs(&served.run))),
    }
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(NAME_CHARACTERS).collect();
    let digest = Digest::of(&known_by.join(&0)).hex();
    format!("{name}-{}", &digest[..DIGEST_CHARACTERS])
}

fn what_runs(run: &RunConfig) -> Vec<Vec<u8>> {
    let arguments = run.arguments.iter().take(1).map(|argument| argument.as_bytes().to_vec());
    let volumes = run.volumes.iter().map(|volume| volume.source.as_os_str().as_bytes().to_vec());
    let layers = run.layers.iter().map(|layer| layer.as_os_str().as_bytes().to_vec());
    std::iter::once(run.image.to_string().into_bytes()).chain(arguments).chain(volumes).chain(layers).collect()
}
