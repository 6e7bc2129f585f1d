//! Starts a program as on a machine that grants less: some system calls fail, parts of `/proc` are hidden, or root is root of a user namespace alone.
//!
//! `degraded [--refuse CALL[=ERRNO]]... [--mask-proc] [--namespace-root] [--root FOLDER [--bind SOURCE:PATH]...] -- PROGRAM [ARGUMENT]...`
//!
//! `CALL` is a system call's name, or one of `clone-newuser` and `clone-newnet` (only with that flag) and `seccomp-listener`; `ERRNO` a number, 1
//! (`EPERM`) if there is none. `--mask-proc` hides a part of `/proc` as outer containers do; an ordinary user gets a user namespace of its own for it.
//! So it does for `--root`, which makes a folder the machine's root, with this machine's `/proc` and `/dev` and whatever is bound to paths that exist in it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot, getegid, geteuid};
use seccomp::numbers::{Architecture, SystemCall};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, apply_filter};

fn main() {
    if let Err(error) = run() {
        eprintln!("degraded: {error}");
        exit(99);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut refused = Vec::new();
    let (mut mask_proc, mut namespace_root) = (false, false);
    let (mut root, mut binds) = (None, vec![("/proc".to_owned(), "/proc".to_owned()), ("/dev".to_owned(), "/dev".to_owned())]);
    loop {
        match arguments.next().as_deref() {
            Some("--refuse") => refused.push(arguments.next().ok_or("--refuse wants a call")?),
            Some("--mask-proc") => mask_proc = true,
            Some("--namespace-root") => namespace_root = true,
            Some("--root") => root = Some(arguments.next().ok_or("--root wants a folder")?),
            Some("--bind") => {
                let bind = arguments.next().ok_or("--bind wants two paths")?;
                let (source, path) = bind.split_once(':').ok_or("--bind wants two paths")?;
                binds.push((source.to_owned(), path.to_owned()));
            }
            Some("--") => break,
            other => return Err(format!("unknown: {other:?}").into()),
        }
    }
    if namespace_root {
        enter_namespace(0, 0)?;
    } else if (mask_proc || root.is_some()) && !geteuid().is_root() {
        enter_namespace(geteuid().as_raw(), getegid().as_raw())?;
    }
    if mask_proc {
        hide_part_of_proc()?;
    }
    if let Some(root) = root {
        enter_root(&root, &binds)?;
    }
    for call in refused {
        refuse(&call)?;
    }
    let program = arguments.next().ok_or("no program")?;
    Err(Command::new(program).args(arguments).exec().into())
}

/// A user namespace in which our own ids are these.
fn enter_namespace(uid: u32, gid: u32) -> Result<(), Box<dyn Error>> {
    let (own_uid, own_gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {own_uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {own_gid} 1"))?;
    Ok(())
}

fn enter_root(root: &str, binds: &[(String, String)]) -> Result<(), Box<dyn Error>> {
    own_mounts()?;
    for (source, path) in binds {
        mount(Some(source.as_str()), format!("{root}{path}").as_str(), None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(|error| format!("cannot show {source} at {path}: {error}"))?;
    }
    chroot(root)?;
    Ok(chdir("/")?)
}

fn own_mounts() -> Result<(), Box<dyn Error>> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}

fn hide_part_of_proc() -> Result<(), Box<dyn Error>> {
    own_mounts()?;
    let none = None::<&str>;
    mount(Some("tmpfs"), "/proc/bus", Some("tmpfs"), MsFlags::MS_RDONLY, none)?;
    Ok(())
}

/// Lets a call fail from now on.
fn refuse(call: &str) -> Result<(), Box<dyn Error>> {
    let (name, errno) = call.split_once('=').unwrap_or((call, "1"));
    let with = |name, argument, flag: u64| -> Result<_, Box<dyn Error>> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag)?;
        Ok((number_of(name)?, vec![SeccompRule::new(vec![condition])?]))
    };
    let (new_user, new_net) = (CloneFlags::CLONE_NEWUSER.bits() as u64, CloneFlags::CLONE_NEWNET.bits() as u64);
    const NEW_LISTENER: u64 = 8;
    let rules = match name {
        "clone-newuser" => vec![with("clone", 0, new_user)?, with("unshare", 0, new_user)?],
        "clone-newnet" => vec![with("clone", 0, new_net)?, with("unshare", 0, new_net)?],
        "seccomp-listener" => vec![with("seccomp", 1, NEW_LISTENER)?],
        name => vec![(number_of(name)?, Vec::new())],
    };
    let rules: BTreeMap<i64, Vec<SeccompRule>> = rules.into_iter().collect();
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.parse()?), architecture)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    apply_filter(&program)?;
    Ok(())
}

fn number_of(name: &str) -> Result<i64, Box<dyn Error>> {
    let number = SystemCall::named(name).and_then(|call| call.number(Architecture::HOST));
    Ok(number.ok_or_else(|| format!("no system call is called `{name}`"))?.into())
}
