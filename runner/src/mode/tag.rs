//! `undocked tag`: another name for an image of the cache.

use rootfs_cache::reference::RegistryReference;

use super::{in_cache, open_cache};
use crate::config::TagConfig;
use crate::exit_code::{ExitCode, Failure};

/// Gives the image the name, of which nothing is printed.
pub fn run(config: &TagConfig) -> Result<ExitCode, Failure> {
    let name: RegistryReference = config.name.parse().map_err(Failure::usage)?;
    if name.digest().is_some() {
        return Err(Failure::usage(format!("`{}` names a digest, which nobody can give to an image", config.name)));
    }
    let cache = open_cache(&config.source)?;
    let found = cache.find(&config.image).map_err(in_cache)?;
    if found.is_empty() {
        let failure = Failure::could_not_run(format!("`{}` is not in the cache", config.image));
        return Err(failure.with_hint(Some("`undocked images` lists what is; `undocked pull` gets it".to_owned())));
    }
    cache.tag(&found, &name).map_err(in_cache)?;
    Ok(ExitCode::SUCCESS)
}
