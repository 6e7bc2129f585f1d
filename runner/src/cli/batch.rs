//! From the options of `undocked batch` to a [`BatchConfig`].

use std::num::NonZeroUsize;

use super::args::{BatchArgs, ImageAndArguments};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{BatchConfig, EventSource, Reuse};
use crate::exit_code::Failure;

pub(super) fn config(args: BatchArgs, own: &OwnEnvironment) -> Result<BatchConfig, Failure> {
    let shard = args.shard.map(|text| text.parse()).transpose().map_err(Failure::usage)?;
    let events = match args.events {
        Some(path) if path != "-" => EventSource::Path(path.into()),
        _ => EventSource::Stdin,
    };
    Ok(BatchConfig {
        run: run::sandbox(args.sandbox, Some(ImageAndArguments::Given(vec![args.image, args.handler])), own)?,
        events,
        jobs: args.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN),
        reuse: if args.warm { Reuse::Warm } else { Reuse::Fresh },
        shard,
        junit: args.junit,
    })
}
