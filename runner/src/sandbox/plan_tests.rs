use super::*;
use crate::sandbox::landlock::Ruleset;
use crate::sandbox::process::Reach;
use crate::sandbox::{Access, Command, HostRoot, Input, MadeFile, Output, TmpSize, Volume, WritableSource, shipped_filter};

fn request(root: RootSource) -> SandboxRequest {
    let filter = shipped_filter();
    SandboxRequest {
        isolation: IsolationChoice::Auto,
        scratch: None,
        root,
        command: Command::Line(vec!["run".into()]),
        environment: vec![CString::new("PATH=/a:/b/::/c").unwrap()],
        working_dir: "/var/task".into(),
        volumes: vec![
            Volume { source: "/deep".into(), target: "/var/task/node_modules".into(), access: Access::ReadOnly },
            Volume { source: "/task".into(), target: "/var/task".into(), access: Access::ReadWrite },
        ],
        identity: InnerIdentity { uid: 993, gid: 990 },
        ids: IdMap::Single,
        terminal: None,
        hostname: "h".into(),
        tmp_size_bytes: 7,
        tmp_in_memory: None,
        files: Vec::new(),
        limits: Limits::default(),
        stdio: Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe },
        network: Network::Host,
        listen_inside: None,
        first_process: FirstProcess::Program,
        filter: Some(filter),
    }
}

fn plan_as(request: SandboxRequest, privilege: Privilege) -> Result<SandboxPlan, PlanError> {
    let isolation = Isolation::Full;
    plan_on(request, Ground { privilege, isolation, choice: IsolationChoice::Only(isolation) })
}

fn image() -> RootSource {
    RootSource::Image { path: "/rootfs".into() }
}

fn names(plan: &SandboxPlan) -> Vec<String> {
    plan.steps.iter().map(Step::name).collect()
}

/// Where a step stands for the last time.
fn place(names: &[String], name: &str) -> usize {
    names.iter().rposition(|step| step == name).unwrap_or_else(|| panic!("no step `{name}` in {names:#?}"))
}

#[test]
fn the_order_is_the_security() {
    for privilege in [Privilege::Root, Privilege::Ordinary { uid: 1000, gid: 100 }] {
        for root in [image(), RootSource::Host(HostRoot::default())] {
            let names = names(&plan_as(request(root), privilege).unwrap());
            let order = [
                "tie the sandbox's life to ours (parent-death signal)",
                "make mounts private",
                "mount /proc",
                "mount on /dev/null",
                "hide /proc/kcore",
                "mount a tmpfs on /tmp",
                "mount on /var/task",
                "mount on /var/task/node_modules",
                "enter the new root (pivot_root)",
                "set the host name",
                "drop capabilities",
                "set no_new_privs",
                "confine file access (Landlock)",
                "close other file descriptors (close_range)",
                "install the seccomp filter",
                "execute the program",
            ];
            let places: Vec<_> = order.iter().map(|name| place(&names, name)).collect();
            assert!(places.is_sorted(), "{names:#?}");
            assert_eq!(places.last(), Some(&(names.len() - 1)));
        }
    }
}

#[test]
fn only_an_ordinary_user_maps_and_opens_inside() {
    let ordinary = names(&plan_as(request(image()), Privilege::Ordinary { uid: 1000, gid: 100 }).unwrap());
    assert_eq!(ordinary[..3], ["write /proc/self/setgroups", "write /proc/self/uid_map", "write /proc/self/gid_map"]);
    assert!(ordinary.iter().any(|name| name.starts_with("open /rootfs")));
    let root = names(&plan_as(request(image()), Privilege::Root).unwrap());
    let dies = "tie the sandbox's life to ours (parent-death signal)";
    assert_eq!(root[..3], [dies, "wait for the id maps", "take the sandbox's user and group id"]);
    assert!(root[3..].contains(&dies.to_owned()), "the signal is cleared with the ids");
    assert!(!root.iter().any(|name| name.starts_with("open ")));
}

#[test]
fn every_source_is_opened_before_anything_lies_over_it() {
    let plan = plan_as(request(image()), Privilege::Ordinary { uid: 1, gid: 1 }).unwrap();
    let last_open = plan.steps.iter().rposition(|step| matches!(step, Step::Open { .. })).unwrap();
    assert!(last_open < plan.steps.iter().position(|step| matches!(step, Step::AttachRoot { .. })).unwrap());
    assert_eq!(plan.sources.len(), 1 + DEVICES.len() + 2);
}

/// Before anything is shown in it. What lies in another volume is that volume's matter.
#[test]
fn places_below_tmp_are_made_while_it_is_empty() {
    let below = |target: &str| Volume { source: "/v".into(), target: target.into(), access: Access::ReadOnly };
    let ids = InnerIdentity { uid: 7, gid: 8 };
    for (privilege, given_to) in [(Privilege::Root, None), (Privilege::WithoutUserns(ids), Some(ids))] {
        let volumes = ["/tmp/a/b/c", "/tmp/a", "/tmp/x/y", "/opt"].map(below).to_vec();
        let plan = plan_as(SandboxRequest { volumes, ..request(image()) }, privilege).unwrap();
        let names = names(&plan);
        let made: Vec<_> = names.iter().filter(|name| name.starts_with("make a place")).collect();
        assert_eq!(made, ["make a place at /tmp/a", "make a place at /tmp/x/y"]);
        let order = ["mount a tmpfs on /tmp", "make a place at /tmp/a", "make a place at /tmp/x/y", "mount on /opt", "mount on /tmp/a/b/c"];
        let places: Vec<_> = order.iter().map(|name| place(&names, name)).collect();
        assert!(places.is_sorted(), "{names:#?}");
        let mut owners = plan.steps.iter().filter_map(|step| if let Step::MakePlace { owner, .. } = step { Some(*owner) } else { None });
        assert!(owners.all(|owner| owner == given_to));
    }
    let volumes = vec![below("/tmp"), below("/tmp/x")];
    let names = names(&plan_as(SandboxRequest { volumes, ..request(image()) }, Privilege::Root).unwrap());
    assert!(!names.iter().any(|name| name.starts_with("make a place")));
}

/// Only where that is asked for; elsewhere `/tmp` is in memory in any case.
#[test]
fn a_tmp_in_memory_over_a_root_that_may_be_written_to() {
    let below = Volume { source: "/v".into(), target: "/tmp/x".into(), access: Access::ReadOnly };
    for (size, options) in [(TmpSize::Bytes(9), "mode=1777,size=9"), (TmpSize::HalfOfMemory, "mode=1777")] {
        let limits = Limits { memory_bytes: Some(1 << 30), cpu: None };
        let wanted = SandboxRequest { tmp_in_memory: Some(size), volumes: vec![below.clone()], limits, ..request(writable()) };
        let plan = plan_as(wanted, Privilege::Root).unwrap();
        let given: Vec<_> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::AttachTmpfs { target, options } if **target == *c"tmp" => Some(options.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(given, [options]);
        let names = names(&plan);
        let order = ["mount a tmpfs on /tmp", "make a place at /tmp/x", "mount on /tmp/x", "show the host /tmp"];
        let places: Vec<_> = order.iter().map(|name| place(&names, name)).collect();
        assert!(places.is_sorted() && names.contains(&"show the host /dev/shm".to_owned()), "{names:#?}");
    }
    let without = names(&plan_as(SandboxRequest { volumes: vec![below], ..request(writable()) }, Privilege::Root).unwrap());
    assert!(!without.iter().any(|name| name.contains("/tmp") && !name.starts_with("mount on")), "{without:#?}");
}

/// They are made where `/tmp` will be, and come last: over what a volume shows of the image's own folder.
#[test]
fn files_are_made_before_tmp_and_shown_after_volumes() {
    let mut request = request(image());
    for path in ["/etc/hosts", "/etc/passwd"] {
        request.files.push(MadeFile { path: path.into(), contents: path.into(), mode: 0o444 });
    }
    let plan = plan_as(request, Privilege::Root).unwrap();
    let order = [
        "hide /proc/kcore",
        "mount a tmpfs for files of the sandbox",
        "make the sandbox's 9",
        "make the sandbox's 10",
        "mount a tmpfs on /tmp",
        "mount on /var/task/node_modules",
        "mount on /etc/hosts",
        "mount on /etc/passwd",
        "enter the new root (pivot_root)",
    ];
    let names = names(&plan);
    let places: Vec<_> = order.iter().map(|name| place(&names, name)).collect();
    assert!(places.is_sorted(), "{names:#?}");
    // Each is shown from the place it was kept at, and no source has that place.
    let mut staged = Vec::new();
    for step in &plan.steps {
        match step {
            Step::StageFile { slot, contents, .. } => staged.push((*slot, format!("mount on {}", String::from_utf8_lossy(contents)))),
            Step::Attach { slot, .. } if *slot >= plan.sources.len() => assert_eq!((*slot, step.name()), staged.remove(0)),
            _ => {}
        }
    }
    assert!(staged.is_empty(), "{staged:?}");
    assert!(!self::names(&plan_as(self::request(image()), Privilege::Root).unwrap()).contains(&order[1].to_owned()));
}

#[test]
fn a_host_root_makes_each_folder_once() {
    let host = HostRoot {
        folders: vec!["/usr".into(), "/home/x/.pyenv/versions/3".into()],
        file_binds: vec!["/etc/resolv.conf".into()],
        places: vec!["/data/deep".into()],
        symlinks: vec![("/bin".into(), "usr/bin".into())],
        files: vec![("/etc/passwd".into(), b"x".to_vec(), 0o644)],
    };
    let names = names(&plan_as(request(RootSource::Host(host)), Privilege::Root).unwrap());
    for made in [
        "make /etc",
        "make /usr",
        "make /home/x/.pyenv",
        "make /bin",
        "make /etc/passwd",
        "make /etc/resolv.conf",
        "mount on /usr",
        "make the root read-only",
    ] {
        assert_eq!(names.iter().filter(|name| *name == made).count(), 1, "{made} in {names:#?}");
    }
}

#[test]
fn words_without_a_slash_are_looked_for_on_the_path() {
    let plan = plan_as(request(image()), Privilege::Root).unwrap();
    let paths: Vec<_> = plan.programs.iter().map(|program| program.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["/a/run", "/b/run", "./run", "/c/run"]);
}

#[test]
fn bad_requests() {
    let bad = |change: fn(&mut SandboxRequest)| {
        let mut request = request(image());
        change(&mut request);
        plan_as(request, Privilege::Root).unwrap_err().to_string()
    };
    assert_eq!(bad(|r| r.volumes[0].target = "var".into()), PlanError::Target("var".into()).to_string());
    assert_eq!(bad(|r| r.volumes[0].target = "/a/../..".into()), PlanError::Target("/a/../..".into()).to_string());
    assert_eq!(bad(|r| r.working_dir = "proc".into()), PlanError::Target("proc".into()).to_string());
    assert_eq!(bad(|r| r.command = Command::Line(vec![])), PlanError::NoCommand.to_string());
    assert_eq!(bad(|r| r.command = Command::Line(vec!["a\0".into()])), PlanError::Nul("/a/a\\0".into()).to_string());
}

/// The first process kills whatever it may send signals to. Root's, less the step that makes it nobody, once killed all that ran on a machine.
#[test]
fn nobody_may_kill_everyone_without_the_step_that_bounds_it() {
    let plan_in_place = |privilege| {
        let isolation = Isolation::InPlace;
        let ground = Ground { privilege, isolation, choice: IsolationChoice::Only(isolation) };
        bare::plan(request(RootSource::Host(HostRoot::default())), ground).unwrap()
    };
    let reach = |plan: SandboxPlan, ruleset: bool| {
        let fd = || std::fs::File::open("/dev/null").unwrap().into();
        plan.reach(ruleset.then(|| Ruleset { fd: fd(), allowed: 0, abi: 6 }).as_ref())
    };
    let ids = InnerIdentity { uid: 65_533, gid: 65_533 };
    let (root, ordinary) = (Privilege::WithoutUserns(ids), Privilege::Ordinary { uid: 1000, gid: 100 });
    let only_descendants = Reach::Descendants { signals_are_scoped: false };
    assert_eq!(reach(plan_in_place(root), true), Reach::User(65_533));
    assert_eq!(reach(plan_in_place(root).without(&["take an unprivileged user's id"]).unwrap(), true), only_descendants);
    assert_eq!(reach(plan_in_place(ordinary), true), Reach::Descendants { signals_are_scoped: true });
    assert_eq!(reach(plan_in_place(ordinary).without(&["confine file access (Landlock)"]).unwrap(), true), only_descendants);
    assert_eq!(reach(plan_in_place(ordinary), false), only_descendants);
}

fn writable() -> RootSource {
    RootSource::Writable(WritableSource::Overlay { lower: "/rootfs".into(), folder: "/run".into() })
}

/// Only there is a `/dev` with a place for it.
#[test]
fn a_terminal_is_shown_where_the_root_may_be_written_to() {
    let devices = |root: RootSource, terminal: Option<&str>| {
        let request = SandboxRequest { terminal: terminal.map(PathBuf::from), volumes: Vec::new(), ..request(root) };
        let plan = plan_as(request, Privilege::Ordinary { uid: 1000, gid: 1000 }).unwrap();
        let shown = plan.sources.iter().filter(|source| source.flags.devices).map(|source| source.path.display().to_string());
        let made = plan.steps.iter().find_map(|step| if let Step::MakeDev { files } = step { Some(files.clone()) } else { None });
        (shown.skip(DEVICES.len()).collect::<Vec<_>>(), made)
    };
    let console = CString::from(c"console");
    assert_eq!(devices(writable(), Some("/dev/pts/7")), (vec!["/dev/pts/7".to_owned()], Some(vec![console])));
    assert_eq!(devices(writable(), None), (Vec::new(), Some(Vec::new())));
    assert_eq!(devices(image(), Some("/dev/pts/7")), (Vec::new(), None));
}

/// The layers are there before the overlay, files before what comes over their place, and root inside keeps no more than it must.
#[test]
fn a_root_that_may_be_written_to() {
    let root = InnerIdentity { uid: 0, gid: 0 };
    let of = |volumes: Vec<Volume>, identity| {
        let file = MadeFile { path: "/dev/settings".into(), contents: Vec::new(), mode: 0o444 };
        let request = SandboxRequest { volumes, identity, files: vec![file], ..request(writable()) };
        plan_as(request, Privilege::Ordinary { uid: 1000, gid: 1000 }).unwrap()
    };
    let plan = of(Vec::new(), root);
    let names = names(&plan);
    let at = |name: &str| names.iter().position(|known| known == name).unwrap_or_else(|| panic!("{name}: {names:?}"));
    let order = [
        at(Step::OVERLAY),
        at("mount a tmpfs for files of the sandbox"),
        at("mount /proc"),
        at("make /dev"),
        at("mount on /dev/null"),
        at("hide /proc/kcore"),
        at("mount on /dev/settings"),
        at("enter the new root (pivot_root)"),
        at("drop capabilities"),
        at("confine file access (Landlock)"),
    ];
    assert!(order.is_sorted(), "{order:?} {names:?}");
    assert!(!names.iter().any(|name| name == "mount a tmpfs on /tmp"));
    let kept = |plan: &SandboxPlan| {
        plan.steps.iter().find_map(|step| if let Step::DropCapabilities { kept } = step { Some(*kept) } else { None }).unwrap()
    };
    assert_eq!(kept(&plan), 0x8000_040a);
    let volume = Volume { source: "/home".into(), target: "/var/task".into(), access: Access::ReadWrite };
    assert_eq!(kept(&of(vec![volume.clone()], root)), 0x40a, "no file gets capabilities that the host sees");
    assert_eq!(kept(&of(vec![Volume { access: Access::ReadOnly, ..volume }], root)), 0x8000_040a);
    assert_eq!(kept(&of(Vec::new(), InnerIdentity { uid: 1000, gid: 0 })), 0);
    let refused = plan_as(request(writable()), Privilege::RootWithoutMounts);
    assert!(matches!(refused, Err(PlanError::NotWritable { .. })));
    assert!(matches!(plan_for(request(writable()), Isolation::Chroot), Err(PlanError::NotWritable { .. })));
}

/// With a range of ids the caller sets all up as root inside, and the program becomes who it is at the end: while it may, before the capabilities go.
#[test]
fn a_range_of_ids() {
    let ids = crate::sandbox::subids::for_tests();
    let of = |privilege, identity| {
        let request = SandboxRequest { ids, identity, volumes: Vec::new(), ..request(writable()) };
        plan_as(request, privilege).unwrap()
    };
    let (root, other) = (InnerIdentity { uid: 0, gid: 7 }, InnerIdentity { uid: 5, gid: 7 });
    for privilege in [Privilege::Root, Privilege::Ordinary { uid: 1000, gid: 100 }] {
        let plan = of(privilege, root);
        let own: Vec<_> =
            plan.steps.iter().filter_map(|step| if let Step::Become(identity) = step { Some(*identity) } else { None }).collect();
        let is_root = privilege == Privilege::Root;
        assert_eq!(own, if is_root { vec![InnerIdentity { uid: 0, gid: 0 }, root] } else { vec![root] });
        let names = names(&plan);
        assert!(!names.iter().any(|name| name.starts_with("write /proc/self/")), "{names:?}");
        let order = [
            place(&names, "wait for the id maps"),
            place(&names, "enter the new root (pivot_root)"),
            place(&names, "take the sandbox's user and group id"),
            place(&names, "drop capabilities"),
            place(&names, "tie the sandbox's life to ours (parent-death signal)"),
            place(&names, "set no_new_privs"),
        ];
        assert!(order.is_sorted(), "{order:?} {names:?}");
        let kept = plan.steps.iter().find_map(|step| if let Step::DropCapabilities { kept } = step { Some(*kept) } else { None });
        assert_eq!(kept, Some(0x8000_04fb));
        // Who is not root keeps nothing: all goes with the ids.
        let names = self::names(&of(privilege, other));
        assert!(!names.iter().any(|name| name == "drop capabilities"), "{names:?}");
        assert!(place(&names, "take an unprivileged user's id") > place(&names, "enter the new root (pivot_root)"));
    }
    let refused = plan_as(SandboxRequest { ids, ..request(image()) }, Privilege::Root);
    assert!(matches!(refused, Err(PlanError::RangeInImage)));
    let refused = plan_as(SandboxRequest { ids, ..request(writable()) }, Privilege::RootWithoutMounts);
    assert!(matches!(refused, Err(PlanError::NotWritable { .. })));
}
