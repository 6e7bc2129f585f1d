//! How the processes of a planned sandbox are held together.

use super::{Isolation, Network, Privilege, SandboxPlan, Step};
use crate::sandbox::landlock::Ruleset;
use crate::sandbox::process::Reach;
use crate::sandbox::several::Place;

impl SandboxPlan {
    /// How its processes are told from others. What the first process may kill, it kills: so nothing is taken for a bound that the plan's steps do not draw.
    pub(in crate::sandbox) fn reach(&self, ruleset: Option<&Ruleset>) -> Reach {
        let becomes_user = self.steps.iter().any(|step| matches!(step, Step::DropToUser(_)));
        let is_confined = self.steps.iter().any(|step| matches!(step, Step::ConfineFiles));
        match self.privilege {
            _ if self.isolation.has_namespaces() => Reach::PidNamespace,
            Privilege::WithoutUserns(ids) if becomes_user => Reach::User(ids.uid),
            Privilege::WithoutUserns(_) => Reach::Descendants { signals_are_scoped: false },
            _ => Reach::Descendants { signals_are_scoped: is_confined && ruleset.is_some_and(|ruleset| ruleset.abi >= 6) },
        }
    }

    /// What the start of several programs depends on.
    pub(in crate::sandbox) fn place(&self, reach: Reach, first: libc::pid_t) -> Place {
        let translation = self.bare.as_ref().and_then(|bare| bare.translation.clone());
        Place { owner: self.privilege.host_ids(), translation, has_network: self.network != Network::Host, reach, first }
    }

    /// The namespaces that the child is born in, as flags of `clone(2)`.
    pub(crate) fn namespaces(&self) -> libc::c_int {
        let always = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
        let base = match self.isolation {
            Isolation::Full | Isolation::ProcBind | Isolation::NoPivot => always | libc::CLONE_NEWUSER,
            Isolation::RootWithoutUserns => always,
            Isolation::Chroot | Isolation::InPlace => 0,
        };
        let wanted = if self.network == Network::Host { base } else { base | libc::CLONE_NEWNET };
        if self.omitted.pid_namespace { wanted & !libc::CLONE_NEWPID } else { wanted }
    }
}
