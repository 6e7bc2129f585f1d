//! From the options of `undocked batch` to a [`BatchConfig`].

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::args::{ImageAndArguments, SandboxArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{BatchConfig, EventSource, Reuse};
use crate::exit_code::Failure;

const BATCH_USAGE: &str = "undocked batch [OPTIONS] IMAGE HANDLER [EVENTS]";

const BATCH_DETAILS: &str = "\
EVENTS  `events.jsonl`: a file with an event a line; `event.json`: a file with one event
        `DIR`: a folder whose files `*.json` are the events, in the order of their names
        `-`, or nothing: standard input, an event a line

Results go to stdout in the order of the events, one JSON object a line.
Exit codes: 0; 1 an event failed; 2 wrong usage; 125 it could not be run; 128+n signal n.";

#[derive(Debug, Args)]
#[command(override_usage = BATCH_USAGE, after_help = BATCH_DETAILS, args_override_self = true)]
pub(super) struct BatchArgs {
    /// The image, as for `undocked run`
    #[arg(value_name = "IMAGE")]
    pub image: OsString,
    /// The function's handler; empty for the image's own
    #[arg(value_name = "HANDLER")]
    pub handler: OsString,
    /// Where the events are
    #[arg(value_name = "EVENTS")]
    pub events: Option<OsString>,
    /// How many events run at once; as many as there are processors when not given
    #[arg(short = 'j', long, value_name = "NUMBER")]
    pub jobs: Option<NonZeroUsize>,
    /// Use an environment for one event after another, in place of a fresh one for each
    #[arg(long)]
    pub warm: bool,
    /// Run a part of the events only, chosen by their contents: from 1/N to N/N
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

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
