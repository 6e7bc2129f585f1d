//! A range of subordinate ids (subuid(5), subgid(5)): whose ids a sandbox has beside the caller's own, and how they are mapped.
//!
//! Id 0 inside is the caller, 1 to 65535 are the range. The kernel lets an ordinary user map no ids but its own, so the set-uid programs of shadow do it,
//! `newuidmap` and `newgidmap`, which look into the same files. Real root maps by itself, ids that nobody has.

use std::fmt;
use std::io;
use std::path::Path;

use super::isolation::Standing;
use super::plan::Privilege;
use super::{idmap, sys};

mod choice;
mod remove;
mod shadow;

pub(super) use remove::remove;
pub use remove::{REMOVE, remove_as_root_inside};
pub(super) use shadow::Mappers;

/// How many ids are mapped beside 0: with them all that 16 bits can say, `nobody` (65534) among them.
pub const COUNT: u32 = 65_535;

/// The first host id of the range under real root; the id inside is what it lies above the number before. Above those that accounts, subuid(5) and
/// systemd give, and above those of sandboxes with a single id ([`idmap::host_id`]). Always the same: so files in volumes have the same owner in each run.
const OF_ROOT: u32 = 0x7800_0001;

// Those of sandboxes with a single id end below (`idmap::apart`); the ids of systemd's foreign images come after.
const _: () = assert!(0x7000_0000 + (32 << 22) < OF_ROOT && OF_ROOT + COUNT < 0x7ffe_0000);

/// The databases, in the order of [`Mappers`].
const DATABASES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

/// How ids inside and those of the host belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IdMap {
    /// There is one id inside, of user and group: the caller, or under real root an id that nobody has.
    #[default]
    Single,
    /// There are all ids of 16 bits.
    Subordinate(SubordinateIds),
}

/// A range of user ids and one of group ids, [`COUNT`] each, and who maps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubordinateIds {
    first_uid: u32,
    first_gid: u32,
    /// Nobody under real root, who needs none.
    mappers: Option<Mappers>,
}

/// Why there are no ids to map.
#[derive(Debug, thiserror::Error)]
pub enum SubordinateIdsError {
    /// A database cannot be read.
    #[error("cannot read the ranges of subordinate ids in `{database}`")]
    Unreadable {
        /// Which one.
        database: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It has no range for this user that is large enough.
    #[error("`{database}` gives {user} no range of {COUNT} subordinate ids{}", if *is_smaller { ", only smaller ones or ids that are taken" } else { "" })]
    NoRange {
        /// Which one.
        database: &'static str,
        /// Who.
        user: Caller,
        /// Whether it has one that does not fit.
        is_smaller: bool,
    },
    /// A program that maps is not there.
    #[error("there is no `{name}`, the program that maps a range of subordinate ids for an ordinary user")]
    NoMapper {
        /// Its name.
        name: &'static str,
    },
    /// The programs that map could not gain the right to it.
    #[error("`newuidmap` cannot map a range of subordinate ids: this process may gain no rights (no_new_privs)")]
    NoNewPrivileges,
    /// The kernel refuses real root's map, or a user namespace.
    #[error("cannot map a range of ids in a user namespace")]
    Refused(#[source] io::Error),
    /// A program that maps has failed.
    #[error("`{program}` failed")]
    Mapper {
        /// Its path.
        program: &'static str,
        /// What it said, or why it could not be run.
        source: io::Error,
    },
}

impl SubordinateIdsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRange { user, .. } => Some(format!(
                "give one: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`, with numbers that nobody else has there"
            )),
            Self::NoMapper { .. } => Some("install shadow's programs: `uidmap` (Debian, Ubuntu), `shadow-utils` (Fedora, RHEL), `shadow-subids` (Alpine)".to_owned()),
            Self::NoNewPrivileges => Some("whoever started this process has set it for good: start it without (systemd: `NoNewPrivileges=no`; docker: no `--security-opt no-new-privileges`)".to_owned()),
            Self::Unreadable { .. } | Self::Refused(_) | Self::Mapper { .. } => None,
        }
    }
}

/// Who asks: a name, where the machine has one for the user id, and the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    uid: u32,
    name: Option<String>,
}

impl Caller {
    fn new(uid: u32) -> Self {
        let found = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        Self { uid, name: found.map(|user| user.name) }
    }

    /// Whether the first field of a line means it: a name or a number (subuid(5)).
    fn is(&self, field: &str) -> bool {
        self.name.as_deref() == Some(field) || field.parse() == Ok(self.uid)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => self.uid.fmt(f),
        }
    }
}

impl SubordinateIds {
    /// Those of this process: of real root always, of others by the machine's databases and programs.
    pub fn of_caller() -> Result<Self, SubordinateIdsError> {
        let Ok(Privilege::Ordinary { uid, gid }) = Standing::here().with_userns() else {
            // A root that has no rights to it is refused with its root that may be written to.
            return Ok(Self { first_uid: OF_ROOT, first_gid: OF_ROOT, mappers: None });
        };
        let caller = Caller::new(uid);
        let [uids, gids] = DATABASES;
        Ok(Self { first_uid: first(uids, &caller, uid)?, first_gid: first(gids, &caller, gid)?, mappers: Some(Mappers::find()?) })
    }

    /// The first ids of the range on the host, of user and group.
    pub fn first(&self) -> (u32, u32) {
        (self.first_uid, self.first_gid)
    }

    /// Who maps them; nobody under real root.
    pub fn mapped_by(&self) -> Option<&'static Path> {
        self.mappers.map(|mappers| Path::new(mappers.programs()[0]))
    }

    /// The maps of user and group ids, as (inside, outside, count), where `own` on the host is root inside.
    fn maps(&self, own: (u32, u32)) -> [[(u32, u32, u32); 2]; 2] {
        [(own.0, self.first_uid), (own.1, self.first_gid)].map(|(own, first)| [(0, own, 1), (1, first, COUNT)])
    }

    /// Maps the ids of a process of ours in a user namespace of its own, which waits for it.
    pub(super) fn map(&self, pid: libc::pid_t) -> Result<(), SubordinateIdsError> {
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        match self.mappers {
            Some(mappers) => mappers.map(pid, &self.maps(own)),
            None => {
                let [uids, gids] = self.maps((idmap::host_id(), idmap::host_id()));
                idmap::write_both(pid, [&uids, &gids]).map_err(SubordinateIdsError::Refused)
            }
        }
    }
}

/// The first id of the range that a database gives.
fn first(database: &'static str, caller: &Caller, own: u32) -> Result<u32, SubordinateIdsError> {
    let text = match std::fs::read_to_string(database) {
        // A machine without the file gives nobody a range.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|source| SubordinateIdsError::Unreadable { database, source })?,
    };
    let no_range = |is_smaller| SubordinateIdsError::NoRange { database, user: caller.clone(), is_smaller };
    choice::first_that_fits(&text, caller, own).map_err(no_range)
}

/// Maps them for a process that does nothing, to see whether that is granted.
pub(super) fn try_out() -> Result<SubordinateIds, SubordinateIdsError> {
    let ids = SubordinateIds::of_caller()?;
    let holder = sys::NamespaceHolder::start().map_err(SubordinateIdsError::Refused)?;
    ids.map(holder.pid())?;
    Ok(ids)
}

/// A map that nobody writes.
#[cfg(test)]
pub(super) fn for_tests() -> IdMap {
    IdMap::Subordinate(SubordinateIds { first_uid: 100_000, first_gid: 100_000, mappers: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_caller_and_the_rest_is_the_range() {
        let ids = SubordinateIds { first_uid: 100_000, first_gid: 200_000, mappers: None };
        assert_eq!(ids.maps((1000, 100)), [[(0, 1000, 1), (1, 100_000, 65_535)], [(0, 100, 1), (1, 200_000, 65_535)]]);
        assert_eq!(ids.first(), (100_000, 200_000));
    }

    #[test]
    fn each_lack_says_what_helps() {
        let user = || Caller { uid: 7, name: Some("joe".into()) };
        let none = SubordinateIdsError::NoRange { database: "/etc/subgid", user: user(), is_smaller: false };
        assert_eq!(none.to_string(), "`/etc/subgid` gives joe no range of 65535 subordinate ids");
        assert!(none.hint().is_some_and(|hint| hint.contains("usermod --add-subuids") && hint.contains(" joe`")));
        let smaller = SubordinateIdsError::NoRange { database: "/etc/subuid", user: Caller { uid: 7, name: None }, is_smaller: true };
        assert_eq!(smaller.to_string(), "`/etc/subuid` gives 7 no range of 65535 subordinate ids, only smaller ones or ids that are taken");
        let mapper = SubordinateIdsError::NoMapper { name: "newgidmap" };
        assert!(mapper.to_string().contains("no `newgidmap`") && mapper.hint().is_some_and(|hint| hint.contains("uidmap")));
    }
}
