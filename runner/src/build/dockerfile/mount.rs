//! `RUN --mount`: <https://docs.docker.com/reference/dockerfile/#run---mount>

use super::Wrong;
use super::steps::{Missing, Mount, MountKind, Writes};

/// Options that change nothing: there is one user, one build has a folder at a time, and empty folders have all the room there is.
const WITHOUT_EFFECT: [&str; 6] = ["sharing", "uid", "gid", "mode", "size", "type"];

/// Reads what stands behind `--mount=`.
pub(super) fn read(text: &str) -> Result<Mount, Wrong> {
    let options = Options::read(text);
    let kind = options.get(&["type"]).unwrap_or("bind");
    let targets = ["target", "dst", "destination"];
    let target = options.get(&targets).filter(|target| !target.is_empty()).map(str::to_owned);
    let wanted = || target.clone().ok_or_else(|| Wrong::new(format!("`RUN --mount=type={kind}` has no target")));
    let known: &[&str] = match kind {
        "cache" => &["id"],
        "bind" => &["from", "source", "src", "rw", "readwrite", "ro", "readonly"],
        "tmpfs" => &[],
        "secret" => &["id", "source", "src", "env", "required"],
        "ssh" => {
            let hint = "fetch what needs a key before the build, and `COPY` it";
            return Err(Wrong::hint("`RUN --mount=type=ssh` is not supported", hint));
        }
        other => return Err(Wrong::new(format!("`RUN --mount=type={other}` is not known"))),
    };
    let is_known = |name: &str| [known, &targets[..], &WITHOUT_EFFECT[..]].iter().any(|known| known.contains(&name));
    if let Some((name, value)) = options.0.iter().find(|(name, _)| !is_known(name)) {
        return Err(Wrong::new(format!("`RUN --mount=type={kind}` with `{name}={value}` is not supported")));
    }
    Ok(match kind {
        "cache" => {
            let target = wanted()?;
            let id = options.get(&["id"]).map_or_else(|| target.clone(), str::to_owned);
            Mount { target: Some(target), kind: MountKind::Cache { id } }
        }
        "tmpfs" => Mount { target: Some(wanted()?), kind: MountKind::Empty },
        "secret" => secret(&options, target)?,
        _ => {
            let source = options.get(&["source", "src"]).unwrap_or_default().to_owned();
            let is_written = options.is_on(&["rw", "readwrite"]) || options.get(&["ro", "readonly"]) == Some("false");
            let writes = if is_written { Writes::Forgotten } else { Writes::Refused };
            let from = options.get(&["from"]).map(str::to_owned);
            Mount { target: Some(wanted()?), kind: MountKind::Bind { from, source, writes } }
        }
    })
}

/// Without a target, and where no variable is named, it lies where docker puts it.
fn secret(options: &Options<'_>, target: Option<String>) -> Result<Mount, Wrong> {
    let file_name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let id = options.get(&["id"]).or(options.get(&["source", "src"])).map(str::to_owned).or(target.as_deref().map(file_name));
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| Wrong::new("`RUN --mount=type=secret` names no secret"))?;
    let variable = options.get(&["env"]).map(str::to_owned);
    let target = target.or_else(|| variable.is_none().then(|| format!("/run/secrets/{}", file_name(&id))));
    let missing = if options.is_on(&["required"]) { Missing::Refused } else { Missing::Left };
    Ok(Mount { target, kind: MountKind::Secret { id, variable, missing } })
}

/// Options in their order; one without a value is on.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn read(text: &'a str) -> Self {
        Self(text.split(',').map(|option| option.split_once('=').unwrap_or((option, "true"))).collect())
    }

    fn get(&self, names: &[&str]) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
    }

    fn is_on(&self, names: &[&str]) -> bool {
        self.get(names).is_some_and(|value| matches!(value, "true" | "1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let bind =
            |from: Option<&str>, source: &str, writes| MountKind::Bind { from: from.map(str::to_owned), source: source.into(), writes };
        let secret =
            |id: &str, variable: Option<&str>, missing| MountKind::Secret { id: id.into(), variable: variable.map(str::to_owned), missing };
        for (text, target, kind) in [
            ("type=cache,target=/c", Some("/c"), MountKind::Cache { id: "/c".into() }),
            ("type=cache,id=x,dst=/c,sharing=locked,uid=1,mode=0755", Some("/c"), MountKind::Cache { id: "x".into() }),
            ("type=tmpfs,target=/t,size=9", Some("/t"), MountKind::Empty),
            ("target=.", Some("."), bind(None, "", Writes::Refused)),
            ("type=bind,source=a,target=b,rw", Some("b"), bind(None, "a", Writes::Forgotten)),
            ("type=bind,src=a,destination=b,readonly", Some("b"), bind(None, "a", Writes::Refused)),
            ("from=deps,target=/d,readwrite=true", Some("/d"), bind(Some("deps"), "", Writes::Forgotten)),
            ("type=secret,id=t", Some("/run/secrets/t"), secret("t", None, Missing::Left)),
            ("type=secret,id=t,target=/k,mode=0444", Some("/k"), secret("t", None, Missing::Left)),
            ("type=secret,target=/etc/npmrc,required", Some("/etc/npmrc"), secret("npmrc", None, Missing::Refused)),
            ("type=secret,id=t,env=T,required=true", None, secret("t", Some("T"), Missing::Refused)),
        ] {
            assert_eq!(read(text), Ok(Mount { target: target.map(str::to_owned), kind }), "{text}");
        }
        for (text, wanted) in [
            ("type=cache", "`RUN --mount=type=cache` has no target"),
            ("type=cache,target=/c,from=x", "`RUN --mount=type=cache` with `from=x` is not supported"),
            ("type=secret", "`RUN --mount=type=secret` names no secret"),
            ("type=ssh", "`RUN --mount=type=ssh` is not supported"),
            ("type=disk,target=/x", "`RUN --mount=type=disk` is not known"),
        ] {
            assert_eq!(read(text).map_err(|wrong| wrong.what), Err(wanted.to_owned()), "{text}");
        }
    }
}
