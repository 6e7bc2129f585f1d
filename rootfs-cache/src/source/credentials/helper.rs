//! Docker's credential helpers: programs `docker-credential-NAME` that keep logins in a safer place than a file. They are run without a shell, and not for ever.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Credentials;

/// More than any login has.
const OUTPUT_MAX: u64 = 1 << 20;
/// The user name by which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A credential helper.
pub(in crate::source) struct Helper<'a> {
    pub(in crate::source) name: &'a str,
    pub(in crate::source) search_path: &'a OsStr,
    pub(in crate::source) limit: Duration,
}

/// Why a helper is of no help.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The name would lead to another program.
    #[error("`{0}` is no name of a helper")]
    Name(String),
    /// There is none.
    #[error("there is no program `docker-credential-{0}`")]
    Missing(String),
    /// It does not run.
    #[error("`docker-credential-{name}` cannot be run: {source}")]
    Run {
        /// The helper.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It takes too long.
    #[error("`docker-credential-{name}` gave no answer within {} s", limit.as_secs())]
    Late {
        /// The helper.
        name: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It failed.
    #[error("`docker-credential-{name}` failed{}{said}", if said.is_empty() { "" } else { ": " })]
    Failed {
        /// The helper.
        name: String,
        /// What it said.
        said: String,
    },
    /// It answers something else than a login.
    #[error("`docker-credential-{0}` answers in no form that is known")]
    Answer(String),
}

/// What goes to and comes from a helper.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    #[serde(default, rename = "ServerURL")]
    server: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper<'_> {
    /// The login for a server, if it has one.
    pub(in crate::source) async fn get(&self, server: &str) -> Result<Option<Credentials>, HelperError> {
        let said = match self.run("get", server.as_bytes()).await {
            // That is how all of them say it, and by nothing else.
            Err(HelperError::Failed { said, .. }) if said.to_ascii_lowercase().contains("credentials not found") => return Ok(None),
            said => said?,
        };
        let login: Login = serde_json::from_slice(&said).map_err(|_| HelperError::Answer(self.name.to_owned()))?;
        Ok(match login {
            Login { secret, .. } if secret.is_empty() => None,
            Login { username, secret, .. } if username == TOKEN_USER => Some(Credentials::IdentityToken(secret)),
            Login { username, secret, .. } => Some(Credentials::Password { user: username, password: secret }),
        })
    }

    /// Has it keep a login.
    pub(in crate::source) async fn store(&self, server: &str, user: &str, password: &str) -> Result<(), HelperError> {
        let login = Login { server: server.to_owned(), username: user.to_owned(), secret: password.to_owned() };
        let login = serde_json::to_vec(&login).map_err(|_| HelperError::Answer(self.name.to_owned()))?;
        self.run("store", &login).await.map(drop)
    }

    /// Has it forget a login.
    pub(in crate::source) async fn erase(&self, server: &str) -> Result<(), HelperError> {
        match self.run("erase", server.as_bytes()).await {
            Err(HelperError::Failed { said, .. }) if said.to_ascii_lowercase().contains("credentials not found") => Ok(()),
            said => said.map(drop),
        }
    }

    async fn run(&self, verb: &str, input: &[u8]) -> Result<Vec<u8>, HelperError> {
        let name = || self.name.to_owned();
        let program = self.program()?;
        let failed = |source| HelperError::Run { name: name(), source };
        let mut child = Command::new(program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Also where a pull is given up.
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let talk = tokio::time::timeout(self.limit, talk(&mut child, input)).await;
        let (succeeded, said) = talk.map_err(|_| HelperError::Late { name: name(), limit: self.limit })?.map_err(failed)?;
        if succeeded {
            return Ok(said);
        }
        let said: String = String::from_utf8_lossy(&said).trim().chars().filter(|c| !c.is_control()).take(200).collect();
        Err(HelperError::Failed { name: name(), said })
    }

    /// Where the helper is.
    fn program(&self) -> Result<PathBuf, HelperError> {
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(HelperError::Name(self.name.to_owned()));
        }
        let file = format!("docker-credential-{}", self.name);
        let mut folders = std::env::split_paths(self.search_path).filter(|folder| folder.is_absolute());
        let found = folders.find_map(|folder| Some(folder.join(&file)).filter(|path| path.is_file()));
        found.ok_or_else(|| HelperError::Missing(self.name.to_owned()))
    }
}

/// Gives the child its input and takes its output. It may answer without having read.
async fn talk(child: &mut Child, input: &[u8]) -> io::Result<(bool, Vec<u8>)> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input).await;
        }
    };
    let take = async {
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(OUTPUT_MAX).read_to_end(&mut said).await?;
        }
        Ok(said)
    };
    let ((), said): (_, io::Result<Vec<u8>>) = tokio::join!(give, take);
    let said = said?;
    Ok((child.wait().await?.success(), said))
}
