//! Logins stored by docker: the `auths` of its `config.json`. Credential helpers are not asked.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::reference::RegistryReference;

/// A user name and password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// Why a stored login is not used. That is worth a note and no more: the image may be public.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("cannot be read: {0}")]
    Read(io::Error),
    #[error("is malformed: {0}")]
    Malformed(serde_json::Error),
    #[error("has a login for `{0}` that is not `user:password` in base64")]
    Login(String),
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
}

/// The login for a repository: the one stored for the longest part of `registry/repository`.
pub(super) fn stored(config: &Path, reference: &RegistryReference) -> Result<Option<Credentials>, CredentialsError> {
    let text = match std::fs::read(config) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CredentialsError::Read(error)),
    };
    let Config { auths } = serde_json::from_slice(&text).map_err(CredentialsError::Malformed)?;
    let wanted = format!("{}/{}", reference.registry(), reference.repository());
    let best =
        auths.iter().filter(|(key, auth)| !auth.auth.is_empty() && covers(&normal(key), &wanted)).max_by_key(|(key, _)| normal(key).len());
    let Some((key, auth)) = best else { return Ok(None) };
    let login = STANDARD.decode(auth.auth.trim()).ok().and_then(|login| String::from_utf8(login).ok());
    let login = login.as_deref().and_then(|login| login.split_once(':'));
    // Docker pads passwords with NUL bytes in some versions.
    let login = login.map(|(user, password)| Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() });
    login.map(Some).ok_or_else(|| CredentialsError::Login(key.clone()))
}

/// Docker writes `https://index.docker.io/v1/` for Docker Hub and `host` for others; older ones wrote URLs for all.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        key => key.to_owned(),
    }
}

fn covers(key: &str, wanted: &str) -> bool {
    wanted.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_key_wins() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        let login = |text: &str| format!(r#"{{"auth": "{}"}}"#, STANDARD.encode(text));
        let auths = [
            ("https://index.docker.io/v1/", login("hub:p:q")),
            ("localhost:5000", login("local:p")),
            ("localhost:5000/lambda", login("lambda:p\0\0")),
            ("http://old.example/v1/", login("old:p")),
            ("helper.example", "{}".to_owned()),
            ("bad.example", login("nocolon")),
        ];
        let auths: Vec<String> = auths.iter().map(|(key, auth)| format!(r#""{key}": {auth}"#)).collect();
        std::fs::write(&config, format!(r#"{{"auths": {{{}}}, "credsStore": "x"}}"#, auths.join(","))).unwrap();
        for (reference, wanted) in [
            ("lambci/lambda", Some(("hub", "p:q"))),
            ("localhost:5000/lambda/python", Some(("lambda", "p"))),
            ("localhost:5000/lambdas/python", Some(("local", "p"))),
            ("localhost:50001/lambda", None),
            ("old.example/a", Some(("old", "p"))),
            ("helper.example/a", None),
        ] {
            let found = stored(&config, &reference.parse().unwrap()).unwrap();
            assert_eq!(found.as_ref().map(|found| (found.user.as_str(), found.password.as_str())), wanted, "{reference}");
        }
        assert!(matches!(stored(&config, &"bad.example/a".parse().unwrap()), Err(CredentialsError::Login(_))));
    }

    #[test]
    fn a_missing_file_is_no_fault_and_a_bad_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        let reference = "a/b".parse().unwrap();
        assert!(matches!(stored(&config, &reference), Ok(None)));
        std::fs::write(&config, "{").unwrap();
        assert!(matches!(stored(&config, &reference), Err(CredentialsError::Malformed(_))));
        assert!(matches!(stored(directory.path(), &reference), Err(CredentialsError::Read(_))));
    }
}
