//! What of this machine a `host` function sees: its programs and libraries, the few files below `/etc` that they read, and nothing else.

use std::path::{Path, PathBuf};

use super::interpreter::Interpreter;
use crate::sandbox::HostRoot;

/// Where programs and libraries are. What is a link on this machine (`/bin` to `usr/bin`) is one inside.
const PROGRAMS: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// What an interpreter that lies elsewhere needs of its prefix. Not all of it: the prefix of `~/.local/bin/node` holds a user's secrets, too.
const PREFIX_FOLDERS: [&str; 4] = ["lib", "lib64", "ssl", "openssl"];

/// Folders below `/etc` that programs and libraries need, none with secrets: chosen alternatives, and whom TLS trusts.
const ETC_FOLDERS: [&str; 6] = [
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
];

/// Files below `/etc`, likewise: where libraries are, and TLS settings.
const ETC_FILES: [&str; 4] = ["/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/etc/ssl/cert.pem", "/etc/pki/tls/openssl.cnf"];

/// Lambda's user, as `/etc/passwd` on Lambda has it.
const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsbx_user1051:x:990:\n";
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
/// Names come from the files above and from DNS; what else a machine asks (systemd, LDAP) is not there.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";

/// The root file system for a program of this machine.
pub(super) fn root(interpreter: Option<&Interpreter>) -> HostRoot {
    let mut root = HostRoot::default();
    for path in PROGRAMS.iter().map(Path::new) {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => root.folders.push(path.to_owned()),
            Ok(metadata) if metadata.is_symlink() => root.symlinks.extend(path.read_link().map(|target| (path.to_owned(), target)).ok()),
            _ => {}
        }
    }
    if let Some(interpreter) = interpreter
        && !root.folders.iter().any(|folder| interpreter.program.starts_with(folder))
    {
        root.file_binds.push(interpreter.program.clone());
        root.folders.extend(PREFIX_FOLDERS.map(|name| interpreter.prefix.join(name)).into_iter().filter(|folder| folder.is_dir()));
    }
    let exists = |path: &&&str| Path::new(path).exists();
    root.folders.extend(ETC_FOLDERS.iter().filter(exists).map(PathBuf::from));
    root.file_binds.extend(ETC_FILES.iter().filter(exists).map(PathBuf::from));
    if Path::new("/usr/lib/os-release").exists() {
        root.symlinks.push(("/etc/os-release".into(), "../usr/lib/os-release".into()));
    }
    for (path, contents) in [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/hosts", HOSTS), ("/etc/nsswitch.conf", NSSWITCH)] {
        root.files.push((path.into(), contents.into(), 0o644));
    }
    root.files.push(("/etc/resolv.conf".into(), std::fs::read("/etc/resolv.conf").unwrap_or_default(), 0o644));
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_programs_and_no_secrets() {
        let root = root(None);
        assert!(root.folders.contains(&"/usr".into()));
        let shown = || {
            root.folders
                .iter()
                .chain(&root.file_binds)
                .chain(root.symlinks.iter().map(|(path, _)| path))
                .chain(root.files.iter().map(|(path, _, _)| path))
        };
        for path in shown() {
            for hidden in ["/home", "/root", "/var", "/etc/shadow", "/etc/ssl/private", "/etc/ssh"] {
                assert!(!path.starts_with(hidden), "{}", path.display());
            }
            assert!(
                !Path::new("/etc/ssl/private").starts_with(path) && !Path::new("/var/run/docker.sock").starts_with(path),
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn an_interpreter_elsewhere_comes_with_its_libraries() {
        let home = tempfile::tempdir().unwrap();
        let prefix = home.path().join(".pyenv/versions/3.11.7");
        std::fs::create_dir_all(prefix.join("lib/python3.11")).unwrap();
        std::fs::create_dir_all(prefix.join("share")).unwrap();
        let interpreter = |prefix: &Path| Interpreter { program: prefix.join("bin/python3.11"), prefix: prefix.to_owned() };
        let elsewhere = root(Some(&interpreter(&prefix)));
        let of_home: Vec<_> = elsewhere.folders.iter().chain(&elsewhere.file_binds).filter(|path| path.starts_with(home.path())).collect();
        assert_eq!(of_home, [&prefix.join("lib"), &prefix.join("bin/python3.11")]);
        assert_eq!(root(Some(&interpreter(Path::new("/usr/local")))).file_binds, root(None).file_binds);
    }
}
