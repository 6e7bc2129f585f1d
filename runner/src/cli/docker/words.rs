//! The verbs of docker, with their options; and those that are none of ours.

use super::flags::Takes::{Nothing, Value};
use super::flags::{Flag, Means, Verb, flag};
use super::run_flags;
use crate::cli::usage::Ended;
use crate::exit_code::{ExitCode, Failure};

/// The version of docker whose command line this is.
pub(super) const VERSION: &str = "28.2.2";

const FORMAT: Flag = flag("format", Some('f'), Value);
const FORMAT_LONG: Flag = flag("format", None, Value);
const FILTER: Flag = flag("filter", Some('f'), Value);
const QUIET: Flag = flag("quiet", Some('q'), Nothing);
const NO_TRUNC: Flag = flag("no-trunc", None, Nothing);
const FORCE: Flag = flag("force", Some('f'), Nothing);

/// Nobody is asked anyway.
const UNASKED: Flag = ignored("force", Some('f'), Nothing);
const NO_ADDRESSES: &str = "runs have no addresses that others could reach";

const fn ignored(long: &'static str, short: Option<char>, takes: super::flags::Takes) -> Flag {
    Flag { long, short, takes, means: Means::Nothing }
}

/// Options may stand behind words, as everywhere in docker but where a command line follows.
const fn verb(name: &'static str, usage: &'static str, words: (usize, Option<usize>), flags: &'static [Flag]) -> Verb {
    Verb { name, usage, flags, lacks: &[], words, mixed: true }
}

const EXEC: &[Flag] = &[
    flag("detach", Some('d'), Nothing),
    flag("env", Some('e'), Value),
    flag("env-file", None, Value),
    flag("interactive", Some('i'), Nothing),
    Flag {
        long: "privileged",
        short: None,
        takes: Nothing,
        means: Means::Refused("nothing in a sandbox has a capability of the machine's"),
    },
    Flag {
        long: "detach-keys",
        short: None,
        takes: Value,
        means: Means::Refused("what runs in the foreground is a process of this terminal's"),
    },
    flag("tty", Some('t'), Nothing),
    flag("user", Some('u'), Value),
    flag("workdir", Some('w'), Value),
];

/// Every verb that is carried out. `docker container ls` and its like are found by their other names, too.
pub(super) const VERBS: &[Verb] = &[
    Verb { name: "run", usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]", flags: run_flags::RUN, lacks: &[], words: (1, None), mixed: false },
    Verb {
        name: "create",
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        flags: run_flags::RUN,
        lacks: run_flags::RUN_ALONE,
        words: (1, None),
        mixed: false,
    },
    verb(
        "start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        (1, None),
        &[flag("attach", Some('a'), Nothing), flag("interactive", Some('i'), Nothing)],
    ),
    verb(
        "ps",
        "[OPTIONS]",
        (0, Some(0)),
        &[
            flag("all", Some('a'), Nothing),
            FILTER,
            FORMAT_LONG,
            flag("last", Some('n'), Value),
            flag("latest", Some('l'), Nothing),
            NO_TRUNC,
            QUIET,
            ignored("size", Some('s'), Nothing),
        ],
    ),
    verb(
        "logs",
        "[OPTIONS] CONTAINER",
        (1, Some(1)),
        &[
            ignored("details", None, Nothing),
            flag("follow", Some('f'), Nothing),
            flag("since", None, Value),
            flag("tail", Some('n'), Value),
            flag("timestamps", Some('t'), Nothing),
            flag("until", None, Value),
        ],
    ),
    verb("attach", "[OPTIONS] CONTAINER", (1, Some(1)), &[flag("no-stdin", None, Nothing), flag("sig-proxy", None, Nothing)]),
    verb("stop", "[OPTIONS] CONTAINER [CONTAINER...]", (1, None), STOPPED),
    verb("restart", "[OPTIONS] CONTAINER [CONTAINER...]", (1, None), STOPPED),
    verb("kill", "[OPTIONS] CONTAINER [CONTAINER...]", (1, None), &[flag("signal", Some('s'), Value)]),
    verb("pause", "CONTAINER [CONTAINER...]", (1, None), &[]),
    verb("unpause", "CONTAINER [CONTAINER...]", (1, None), &[]),
    verb(
        "rm",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        (1, None),
        &[
            FORCE,
            flag("volumes", Some('v'), Nothing),
            Flag { long: "link", short: Some('l'), takes: Nothing, means: Means::Refused("there are no links between runs") },
        ],
    ),
    verb("wait", "CONTAINER [CONTAINER...]", (1, None), &[]),
    verb("rename", "CONTAINER NEW_NAME", (2, Some(2)), &[]),
    verb("port", "CONTAINER [PRIVATE_PORT[/PROTO]]", (1, Some(2)), &[]),
    verb("top", "CONTAINER [ps OPTIONS]", (1, None), &[]),
    Verb { name: "exec", usage: "[OPTIONS] CONTAINER COMMAND [ARG...]", flags: EXEC, lacks: &[], words: (2, None), mixed: false },
    verb(
        "cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        (2, Some(2)),
        &[ignored("archive", Some('a'), Nothing), flag("follow-link", Some('L'), Nothing), ignored("quiet", Some('q'), Nothing)],
    ),
    verb("inspect", "[OPTIONS] NAME|ID [NAME|ID...]", (1, None), &[FORMAT, ignored("size", Some('s'), Nothing), flag("type", None, Value)]),
    verb("version", "[OPTIONS]", (0, Some(0)), &[FORMAT]),
    verb("info", "[OPTIONS]", (0, Some(0)), &[FORMAT]),
    verb(
        "pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        (1, Some(1)),
        &[
            QUIET,
            flag("platform", None, Value),
            ignored("disable-content-trust", None, Nothing),
            Flag { long: "all-tags", short: Some('a'), takes: Nothing, means: Means::Refused("name the tags that are wanted") },
        ],
    ),
    verb(
        "images",
        "[OPTIONS] [REPOSITORY[:TAG]]",
        (0, Some(1)),
        &[ignored("all", Some('a'), Nothing), flag("digests", None, Nothing), FILTER, FORMAT_LONG, NO_TRUNC, QUIET],
    ),
    verb("rmi", "[OPTIONS] IMAGE [IMAGE...]", (1, None), &[FORCE, ignored("no-prune", None, Nothing)]),
    verb("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", (2, Some(2)), &[]),
    verb("save", "[OPTIONS] IMAGE [IMAGE...]", (1, None), &[flag("output", Some('o'), Value), flag("platform", None, Value)]),
    verb("load", "[OPTIONS]", (0, Some(0)), &[flag("input", Some('i'), Value), flag("platform", None, Value), QUIET]),
    verb("image prune", "[OPTIONS]", (0, Some(0)), &[flag("all", Some('a'), Nothing), UNASKED]),
    verb("system prune", "[OPTIONS]", (0, Some(0)), &[flag("all", Some('a'), Nothing), UNASKED, ignored("volumes", None, Nothing)]),
    verb("container inspect", "[OPTIONS] CONTAINER [CONTAINER...]", (1, None), &[FORMAT, ignored("size", Some('s'), Nothing)]),
    verb("container prune", "[OPTIONS]", (0, Some(0)), &[UNASKED]),
    verb("image inspect", "[OPTIONS] IMAGE [IMAGE...]", (1, None), &[FORMAT]),
    verb(
        "volume create",
        "[OPTIONS] [VOLUME]",
        (0, Some(1)),
        &[flag("driver", Some('d'), Value), ignored("label", None, Value), flag("name", None, Value)],
    ),
    verb("volume ls", "[OPTIONS]", (0, Some(0)), &[FILTER, FORMAT_LONG, QUIET]),
    verb("volume rm", "[OPTIONS] VOLUME [VOLUME...]", (1, None), &[FORCE]),
    verb("volume inspect", "[OPTIONS] VOLUME [VOLUME...]", (1, None), &[FORMAT]),
    verb(
        "network create",
        "[OPTIONS] NETWORK",
        (1, Some(1)),
        &[
            flag("driver", Some('d'), Value),
            flag("label", None, Value),
            ignored("attachable", None, Nothing),
            ignored("scope", None, Value),
            Flag { long: "internal", short: None, takes: Nothing, means: Means::Refused("`--network none` gives a run no way out") },
            Flag { long: "subnet", short: None, takes: Value, means: Means::Refused(NO_ADDRESSES) },
            Flag { long: "gateway", short: None, takes: Value, means: Means::Refused(NO_ADDRESSES) },
            Flag { long: "ip-range", short: None, takes: Value, means: Means::Refused(NO_ADDRESSES) },
            Flag { long: "opt", short: Some('o'), takes: Value, means: Means::Refused("there is no driver that takes options") },
        ],
    ),
    verb("network rm", "[OPTIONS] NETWORK [NETWORK...]", (1, None), &[FORCE]),
    verb("network prune", "[OPTIONS]", (0, Some(0)), &[UNASKED]),
    verb("network ls", "[OPTIONS]", (0, Some(0)), &[FILTER, FORMAT_LONG, NO_TRUNC, QUIET]),
    verb("network inspect", "[OPTIONS] NETWORK [NETWORK...]", (1, None), &[FORMAT, ignored("verbose", Some('v'), Nothing)]),
    verb("system info", "[OPTIONS]", (0, Some(0)), &[FORMAT]),
];

const STOPPED: &[Flag] = &[flag("signal", Some('s'), Value), flag("timeout", Some('t'), Value), flag("time", None, Value)];

/// Other names, as (group, verb, own name).
const ALIASES: &[(&str, &str, &str)] = &[
    ("container", "ls", "ps"),
    ("container", "list", "ps"),
    ("container", "ps", "ps"),
    ("container", "remove", "rm"),
    ("image", "pull", "pull"),
    ("image", "ls", "images"),
    ("image", "list", "images"),
    ("image", "rm", "rmi"),
    ("image", "remove", "rmi"),
    ("image", "tag", "tag"),
    ("image", "save", "save"),
    ("image", "load", "load"),
    ("volume", "list", "volume ls"),
    ("volume", "remove", "volume rm"),
    ("network", "list", "network ls"),
    ("network", "remove", "network rm"),
    ("system", "info", "info"),
];

/// What docker has and we do not, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("commit", "images are made by `docker build`"),
    ("diff", "nothing notes what a run changes"),
    ("events", "there is no daemon that events could come from"),
    ("export", "`docker save` writes an image, `docker cp` files of a run"),
    ("history", "images are kept as layers, without their commands"),
    ("import", "`docker load` reads an image"),
    ("search", "registries are asked for images by name alone"),
    ("stats", "what a function used is in its REPORT line"),
    ("update", "limits are given at the start"),
    ("buildx", "`docker build` builds"),
    ("builder", "`docker build` builds"),
    ("checkpoint", "there is none"),
    ("compose", "it starts many containers that know of each other, which functions do not"),
    ("config", "there is no swarm"),
    ("context", "there is no daemon, here or elsewhere"),
    ("manifest", "images of several platforms are made by `docker buildx` where there is a docker"),
    ("node", "there is no swarm"),
    ("plugin", "there are none"),
    ("secret", "there is no swarm"),
    ("service", "there is no swarm"),
    ("stack", "there is no swarm"),
    ("swarm", "there is no swarm"),
    ("scout", "that is a service of docker's"),
    ("network connect", "each run has a network of its own"),
    ("network disconnect", "each run has a network of its own"),
    ("volume prune", "volumes of runs go with them (`docker rm -v`); `docker volume rm` removes others"),
    ("builder prune", "`undocked prune` removes what builds have kept"),
    ("system df", "`undocked images` shows sizes"),
    ("system events", "there is no daemon that events could come from"),
];

const GROUPS: [&str; 7] = ["container", "image", "volume", "network", "system", "buildx", "builder"];

/// The verb that words begin with, and what follows it.
pub(super) fn find(words: &[String]) -> Result<(&'static Verb, &[String]), Ended> {
    let Some((first, rest)) = words.split_first() else { return Err(Ended::Text(help())) };
    let second = rest.first().map(String::as_str).filter(|word| !word.starts_with('-'));
    if let (Some(second), true) = (second, GROUPS.contains(&first.as_str())) {
        let alias = ALIASES.iter().find(|(group, name, _)| group == first && *name == second).map(|(_, _, own)| *own);
        let both = format!("{first} {second}");
        let names = [alias, Some(both.as_str()), Some(second).filter(|_| first == "container")];
        if let Some(verb) = names.into_iter().flatten().find_map(by_name) {
            return Ok((verb, &rest[1..]));
        }
        refuse(&both)?;
    } else if let Some(verb) = by_name(first) {
        return Ok((verb, rest));
    }
    refuse(first)?;
    let shown = match second.filter(|_| GROUPS.contains(&first.as_str())) {
        Some(second) => format!("{first} {second}"),
        None => first.clone(),
    };
    let text = format!("docker: unknown command: docker {shown}\n\nRun 'docker --help' for more information\n");
    Err(Ended::Said { text, code: ExitCode::FUNCTION_FAILED })
}

fn by_name(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

fn refuse(name: &str) -> Result<(), Failure> {
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((name, reason)) => {
            let hint = "docs/docker.md lists what there is and what there is not";
            Err(Failure::could_not_run(format!("`docker {name}` is not supported: {reason}")).with_hint(Some(hint.to_owned())))
        }
        None => Ok(()),
    }
}

/// What there is.
pub(super) fn help() -> String {
    let ours: String = super::OURS.iter().map(|(name, usage)| format!("  {name} {usage}\n")).collect();
    let verbs: String =
        VERBS.iter().map(|verb| format!("  {} {}\n", verb.name, verb.usage.split('\n').next().unwrap_or_default())).collect();
    format!(
        "Usage:  docker [OPTIONS] COMMAND\n\nThis is undocked under docker's name: functions and builds run without a daemon.\n\nCommands:\n{ours}{verbs}\nRun 'docker COMMAND --help' for more information on a command.\n"
    )
}
