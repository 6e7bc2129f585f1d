use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn registry(text: &str) -> Registry {
    Registry::parse(text).unwrap()
}

fn helper(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn access(folder: &Path) -> RegistryAccess {
    RegistryAccess { search_path: folder.into(), ..RegistryAccess::default() }
}

fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn registries_as_they_are_written() {
    for (text, wanted) in [
        ("docker.io", Some("docker.io")),
        ("https://index.docker.io/v1/", Some("docker.io")),
        ("localhost:5000", Some("localhost:5000")),
        ("https://registry.example/", Some("registry.example")),
        ("registry.example/team", Some("registry.example")),
        ("registry", None),
        ("", None),
        ("a b", None),
    ] {
        assert_eq!(Registry::parse(text).ok().as_ref().map(Registry::name), wanted, "{text}");
    }
}

#[tokio::test]
async fn a_file_keeps_what_we_do_not_know_and_is_for_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/config.json");
    let access = access(folder.path());
    let kept = store(&registry("a.example"), NewLogin { user: "u", password: "p:q" }, &file, &access).await.unwrap();
    assert_eq!(kept, Kept::InFile);
    assert_eq!(json_of(&file), json!({"auths": {"a.example": {"auth": STANDARD.encode("u:p:q")}}}));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let strange = json!({"auths": {"b.example": {"auth": "eA==", "email": "x@y"}}, "HttpHeaders": {"X": "y"}, "currentContext": "z"});
    fs::write(&file, strange.to_string()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    store(&registry("docker.io"), NewLogin { user: "u", password: "p" }, &file, &access).await.unwrap();
    let mut wanted = strange.clone();
    wanted["auths"]["https://index.docker.io/v1/"] = json!({"auth": STANDARD.encode("u:p")});
    assert_eq!(json_of(&file), wanted);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(forget(&registry("docker.io"), &file, &access).await.unwrap(), Forgotten::Yes);
    assert_eq!(json_of(&file), strange);
    assert_eq!(forget(&registry("docker.io"), &file, &access).await.unwrap(), Forgotten::Nothing);
    let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.json"]);
}

#[tokio::test]
async fn a_link_stays_one_and_a_broken_file_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (file, real) = (folder.path().join("config.json"), folder.path().join("real.json"));
    fs::write(&real, "{}").unwrap();
    symlink(&real, &file).unwrap();
    store(&registry("a.example"), NewLogin { user: "u", password: "p" }, &file, &access(folder.path())).await.unwrap();
    assert!(file.is_symlink() && json_of(&real)["auths"].get("a.example").is_some());

    for broken in ["{", "[]", r#"{"auths": 5}"#] {
        fs::write(&real, broken).unwrap();
        let error = store(&registry("a.example"), NewLogin { user: "u", password: "p" }, &file, &access(folder.path())).await.unwrap_err();
        assert!(matches!(error, LoginError::Config { .. }), "{broken}: {error:?}");
        assert_eq!(fs::read_to_string(&real).unwrap(), broken);
    }
}

#[tokio::test]
async fn a_helper_keeps_it_where_the_file_names_one() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    helper(folder.path(), "safe", &format!("echo \"$1\" >>'{0}'; cat >>'{0}'", said.display()));
    helper(folder.path(), "locked", "echo locked; exit 1");
    let file = folder.path().join("config.json");
    fs::write(&file, json!({"credsStore": "safe", "credHelpers": {"b.example": "locked"}}).to_string()).unwrap();
    let access = access(folder.path());
    let kept = store(&registry("docker.io"), NewLogin { user: "u", password: "secret" }, &file, &access).await.unwrap();
    assert_eq!(kept, Kept::ByHelper("safe".to_owned()));
    let wanted = r#"{"ServerURL":"https://index.docker.io/v1/","Username":"u","Secret":"secret"}"#;
    assert_eq!(fs::read_to_string(&said).unwrap(), format!("store\n{wanted}"));
    let config = json_of(&file);
    assert_eq!(config["auths"], json!({"https://index.docker.io/v1/": {}}));
    assert!(!config.to_string().contains("secret"));

    assert_eq!(forget(&registry("docker.io"), &file, &access).await.unwrap(), Forgotten::Yes);
    assert!(fs::read_to_string(&said).unwrap().ends_with("erase\nhttps://index.docker.io/v1/"));

    let error = store(&registry("b.example"), NewLogin { user: "u", password: "secret" }, &file, &access).await.unwrap_err();
    assert!(matches!(error, LoginError::Helper { .. }), "{error:?}");
    assert!(!fs::read_to_string(&file).unwrap().contains("b.example\": {\"auth"));
}

#[tokio::test]
async fn another_login_may_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let (first, file) = (folder.path().join("auth.json"), folder.path().join("config.json"));
    let access = RegistryAccess { logins: vec![first.clone(), file.clone()], ..access(folder.path()) };
    let login = NewLogin { user: "u", password: "p" };
    store(&registry("a.example"), login, &file, &access).await.unwrap();
    assert!(is_used(&registry("a.example"), login, &access).await);
    fs::write(&first, json!({"auths": {"a.example": {"auth": STANDARD.encode("old:p")}}}).to_string()).unwrap();
    assert!(!is_used(&registry("a.example"), login, &access).await);
}
