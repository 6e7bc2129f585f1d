//! What a plan is made for: what this process may do, the isolation, and what becomes of a step that is refused.

use super::idmap;
use super::step::{Entrance, ProcFrom};
use super::{InnerIdentity, Isolation, IsolationChoice};

/// What becomes of a launch when a step is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lenience {
    /// Every step that protects must be done.
    Strict,
    /// Optional ones need not.
    Usual,
    /// It goes on, to see what becomes of the others: for finding out what a machine grants, never for a function.
    Probing,
}

/// What the launching process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// Real root: maps to an unprivileged host id written by the parent, mounts with shifted ids.
    Root,
    /// Real root that may not mount outside of the sandbox (as in most containers): the child mounts before it takes the id, and ids are not shifted.
    RootWithoutMounts,
    /// Anyone else: maps itself, to itself.
    Ordinary { uid: u32, gid: u32 },
    /// Root without a user namespace: becomes this unprivileged id for good.
    WithoutUserns(InnerIdentity),
}

impl Privilege {
    /// Whether the parent opens the sources, which the child could not.
    pub(crate) fn parent_opens(self) -> bool {
        matches!(self, Self::Root | Self::WithoutUserns(_))
    }

    /// Whether the parent writes the id maps.
    pub(crate) fn parent_maps(self) -> bool {
        matches!(self, Self::Root | Self::RootWithoutMounts)
    }

    /// The user of the machine that nobody but the program is, and whose processes we may not look into for lack of a user namespace that is ours.
    pub(crate) fn user(self) -> Option<u32> {
        match self {
            Self::WithoutUserns(ids) => Some(ids.uid),
            _ => None,
        }
    }

    /// The program's ids on this machine, where they are not our own.
    pub(crate) fn host_ids(self) -> Option<InnerIdentity> {
        match self {
            Self::Root | Self::RootWithoutMounts => Some(InnerIdentity { uid: idmap::host_id(), gid: idmap::host_id() }),
            Self::WithoutUserns(ids) => Some(ids),
            Self::Ordinary { .. } => None,
        }
    }
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    pub(crate) privilege: Privilege,
    pub(crate) isolation: Isolation,
    /// Whether another isolation will do where a step is refused.
    pub(crate) choice: IsolationChoice,
}

impl Ground {
    /// Where `/proc` comes from.
    pub(super) fn proc_from(self) -> ProcFrom {
        match (self.choice, self.isolation) {
            (IsolationChoice::Auto, _) | (_, Isolation::NoPivot | Isolation::RootWithoutUserns) => ProcFrom::NewElseOuter,
            (_, Isolation::ProcBind) => ProcFrom::Outer,
            _ => ProcFrom::New,
        }
    }

    /// How the new root becomes `/`.
    pub(super) fn entrance(self) -> Entrance {
        match (self.choice, self.isolation) {
            (_, Isolation::NoPivot) => Entrance::Move,
            (IsolationChoice::Auto, _) | (_, Isolation::RootWithoutUserns) => Entrance::PivotElseMove,
            _ => Entrance::Pivot,
        }
    }
}
