//! `undocked login` and `undocked logout`: what registries take, and where it is kept, as docker does it.

use std::io::Read;
use std::path::Path;

use rootfs_cache::pull::PullEvent;
use rootfs_cache::source::login::{self, Forgotten, Kept, LoginError, NewLogin, Registry};

use super::progress::Progress;
use super::{async_runtime, print};
use crate::config::{LoginConfig, LogoutConfig, Password};
use crate::exit_code::{ExitCode, Failure};

/// Longest password or token that is read.
const PASSWORD_MAX: u64 = 64 << 10;

/// Logs in: the registry is asked, and then the login is kept.
pub fn run_login(config: &LoginConfig) -> Result<ExitCode, Failure> {
    let registry = Registry::parse(&config.registry).map_err(wrong)?;
    let file = file(config.file.as_deref())?;
    let password = password(&config.password)?;
    let progress = Progress::new(config.talk);
    let note = |text: &str| progress.tell(PullEvent::Note(text));
    let new = NewLogin { user: &config.user, password: &password };
    let done = async_runtime()?.block_on(async {
        login::check(&registry, new, &config.access, &note).await?;
        let kept = login::store(&registry, new, file, &config.access).await?;
        Ok((kept, login::is_used(&registry, new, &config.access).await))
    });
    let (kept, is_used) = done.map_err(failed)?;
    if !is_used {
        note(&format!("another login for {} comes first: one that podman or `REGISTRY_AUTH_FILE` keeps", registry.name()));
    }
    match kept {
        Kept::InFile => note(&format!("the password is kept unencrypted in `{}`; a credential helper keeps it safer", file.display())),
        Kept::ByHelper(_) => {}
    }
    print(b"Login Succeeded\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Forgets a login.
pub fn run_logout(config: &LogoutConfig) -> Result<ExitCode, Failure> {
    let registry = Registry::parse(&config.registry).map_err(wrong)?;
    let forgotten = async_runtime()?.block_on(login::forget(&registry, file(config.file.as_deref())?, &config.access));
    let said = match forgotten.map_err(failed)? {
        Forgotten::Yes => format!("Removing login credentials for {}\n", registry.name()),
        Forgotten::Nothing => format!("Not logged in to {}\n", registry.name()),
    };
    print(said.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn file(given: Option<&Path>) -> Result<&Path, Failure> {
    let hint = || Some("set `HOME`, or `DOCKER_CONFIG` to a folder".to_owned());
    given.ok_or_else(|| Failure::could_not_run("there is no place for a login").with_hint(hint()))
}

fn password(given: &Password) -> Result<String, Failure> {
    let password = match given {
        Password::Given(password) => password.clone(),
        Password::Stdin => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(PASSWORD_MAX).read_to_string(&mut text);
            read.map_err(|error| Failure::could_not_run(format!("cannot read the password from stdin: {error}")))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    if password.is_empty() { Err(Failure::usage("the password is empty")) } else { Ok(password) }
}

fn wrong(error: LoginError) -> Failure {
    let hint = error.hint();
    Failure::usage(error).with_hint(hint)
}

fn failed(error: LoginError) -> Failure {
    let hint = error.hint();
    Failure::could_not_run(error).with_hint(hint)
}
