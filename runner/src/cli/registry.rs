//! How registries are reached, from options and variables; and the commands that log in and out.

use std::time::Duration;

use rootfs_cache::source::{Patience, RegistryAccess};

use super::args::{LoginArgs, LogoutArgs, ReachArgs};
use super::env::OwnEnvironment;
use super::run;
use crate::config::{LoginConfig, LogoutConfig, Password};
use crate::exit_code::Failure;

/// How registries are reached.
pub(super) fn access(args: ReachArgs, own: &OwnEnvironment) -> Result<RegistryAccess, Failure> {
    let hint = || Some("for example `--mirror public.ecr.aws=mirror.example:5000`".to_owned());
    let mirrors = args.mirror.iter().map(|text| text.parse());
    let mut patience = Patience::default();
    if let Some(delay) = args.registry_retry_delay {
        let bad = |_| Failure::usage(format!("`{delay}` is no time to wait"));
        patience.base = Duration::try_from_secs_f64(delay).map_err(bad)?;
    }
    Ok(RegistryAccess {
        insecure: args.insecure_registry,
        mirrors: mirrors.collect::<Result<_, _>>().map_err(|error| Failure::usage(error).with_hint(hint()))?,
        registries: own.registries_files(),
        logins: own.login_files(),
        authorities: args.ca,
        certificates: own.certificate_folders(),
        proxies: own.proxies(),
        search_path: own.search_path(),
        patience,
    })
}

/// Of `undocked login`.
pub(super) fn login(args: LoginArgs, own: &OwnEnvironment) -> Result<LoginConfig, Failure> {
    let missing = |what: &str| {
        let hint = "`undocked login REGISTRY -u USER --password-stdin <FILE`";
        Failure::usage(format!("{what} is missing")).with_hint(Some(hint.to_owned()))
    };
    let password = match (args.password, args.password_stdin) {
        (_, true) => Password::Stdin,
        (Some(password), false) => Password::Given(password),
        (None, false) => return Err(missing("`--password-stdin`")),
    };
    Ok(LoginConfig {
        registry: registry(args.registry),
        user: args.username.filter(|user| !user.is_empty()).ok_or_else(|| missing("`--username USER`"))?,
        password,
        file: own.login_file(),
        access: access(args.reach, own)?,
        talk: run::talk(&args.talk, own),
    })
}

/// Of `undocked logout`.
pub(super) fn logout(args: LogoutArgs, own: &OwnEnvironment) -> Result<LogoutConfig, Failure> {
    let access = access(ReachArgs::default(), own)?;
    Ok(LogoutConfig { registry: registry(args.registry), file: own.login_file(), access })
}

fn registry(given: Option<String>) -> String {
    given.unwrap_or_else(|| "docker.io".to_owned())
}
