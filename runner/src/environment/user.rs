//! Who a plain command is in a root that may be written to: what docker makes of a user's name or number, by the image's own user database.

use crate::sandbox::InnerIdentity;

/// A user of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The ids.
    pub ids: InnerIdentity,
    /// Its home folder, `/` where the image knows none.
    pub home: String,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    /// No such name.
    #[error("the image's `/etc/passwd` has no user `{0}`")]
    NoUser(String),
    /// No such group.
    #[error("the image's `/etc/group` has no group `{0}`")]
    NoGroup(String),
}

impl UserError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        "give numbers, as in `-u 1000:1000`, or names that the image has".to_owned()
    }
}

/// The user that `USER[:GROUP]` means, names or numbers; root where nothing is said.
pub fn user(given: Option<&str>, passwd: &[u8], group: impl FnOnce() -> Vec<u8>) -> Result<User, UserError> {
    let (name, of_group) = match given.map(|given| given.split_once(':').map_or((given, None), |(name, group)| (name, Some(group)))) {
        None => ("0", None),
        Some(("", group)) => ("0", group),
        Some(named) => named,
    };
    let number = id(name);
    let line = lines(passwd).into_iter().find(|fields| match number {
        // A name may be a number; docker takes the number then.
        Some(number) => fields.get(2).and_then(|uid| id(uid)) == Some(number),
        None => fields.first() == Some(&name),
    });
    let field = |index: usize| line.as_ref().and_then(|fields| fields.get(index).copied());
    let uid = number.or_else(|| field(2).and_then(id)).ok_or_else(|| UserError::NoUser(name.to_owned()))?;
    let gid = match of_group.filter(|group| !group.is_empty()) {
        None => field(3).and_then(id).unwrap_or(0),
        Some(wanted) => match id(wanted) {
            Some(gid) => gid,
            None => {
                let group = group();
                let found = lines(&group).into_iter().find(|fields| fields.first() == Some(&wanted));
                found.and_then(|fields| id(fields.get(2)?)).ok_or_else(|| UserError::NoGroup(wanted.to_owned()))?
            }
        },
    };
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(User { ids: InnerIdentity { uid, gid }, home })
}

/// Up to the last id that there is (user_namespaces(7)).
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= 0x7fff_ffff)
}

fn lines(database: &[u8]) -> Vec<Vec<&str>> {
    let lines = database.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.map(|line| line.split(':').collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_has_it() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n7:x:70:71::/seven:/bin/sh\nodd:x:9:9::relative:\n";
        let group = || b"root:x:0:\nstaff:x:50:app\n".to_vec();
        for (given, uid, gid, home) in [
            (None, 0, 0, "/root"),
            (Some(""), 0, 0, "/root"),
            (Some("root"), 0, 0, "/root"),
            (Some("app"), 1000, 1001, "/home/app"),
            (Some("app:staff"), 1000, 50, "/home/app"),
            (Some("app:7"), 1000, 7, "/home/app"),
            (Some("1000"), 1000, 1001, "/home/app"),
            (Some("501:20"), 501, 20, "/"),
            (Some("7"), 7, 0, "/"),
            (Some("odd"), 9, 9, "/"),
            (Some(":50"), 0, 50, "/root"),
            (Some("app:"), 1000, 1001, "/home/app"),
        ] {
            let found = user(given, passwd, group).unwrap();
            assert_eq!(found, User { ids: InnerIdentity { uid, gid }, home: home.to_owned() }, "{given:?}");
        }
        assert_eq!(user(Some("none"), passwd, group), Err(UserError::NoUser("none".into())));
        assert_eq!(user(Some("app:none"), passwd, group), Err(UserError::NoGroup("none".into())));
        assert_eq!(user(Some("4294967295"), passwd, group), Err(UserError::NoUser("4294967295".into())));
        assert_eq!(user(None, b"", group).unwrap().home, "/");
    }
}
