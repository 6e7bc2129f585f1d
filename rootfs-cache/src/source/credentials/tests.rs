use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use serde_json::json;

use super::*;

/// A folder with files of logins and with helpers.
struct Bench {
    folder: tempfile::TempDir,
    notes: Mutex<Vec<String>>,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), notes: Mutex::default() }
    }

    fn file(&self, name: &str, text: impl ToString) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// A helper, as a shell script.
    fn helper(&self, name: &str, script: &str) {
        let path = self.file(&format!("docker-credential-{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    async fn find(&self, files: &[PathBuf], reference: &str) -> Option<String> {
        let limit = Duration::from_secs(if self.folder.path().join("docker-credential-late").exists() { 0 } else { 20 });
        let logins = Logins { files, search_path: self.folder.path().as_os_str(), helper_limit: limit };
        let note = |note: &str| self.notes.lock().unwrap().push(note.to_owned());
        logins.find(&reference.parse().unwrap(), &note).await.map(shown)
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default()
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn shown(credentials: Credentials) -> String {
    match credentials {
        Credentials::Password { user, password } => format!("{user}:{password}"),
        Credentials::IdentityToken(token) => format!("token {token}"),
    }
}

fn login(text: &str) -> serde_json::Value {
    json!({"auth": STANDARD.encode(text)})
}

#[tokio::test]
async fn the_longest_key_wins() {
    let bench = Bench::new();
    let auths = json!({
        "https://index.docker.io/v1/": login("hub:p:q"),
        "localhost:5000": login("local:p"),
        "localhost:5000/lambda": login("lambda:p\0\0"),
        "http://old.example/v1/": login("old:p"),
        "token.example": {"auth": STANDARD.encode("x:y"), "identitytoken": "t"},
        "helper.example": {},
        "plain.example": {"username": "by", "password": "hand"},
        "bad.example": login("nocolon"),
    });
    let file = bench.file("config.json", json!({"auths": auths}));
    for (reference, wanted) in [
        ("lambci/lambda", Some("hub:p:q")),
        ("localhost:5000/lambda/python", Some("lambda:p")),
        ("localhost:5000/lambdas/python", Some("local:p")),
        ("localhost:50001/lambda", None),
        ("old.example/a", Some("old:p")),
        ("token.example/a", Some("token t")),
        ("helper.example/a", None),
        ("plain.example/a", Some("by:hand")),
    ] {
        assert_eq!(bench.find(std::slice::from_ref(&file), reference).await.as_deref(), wanted, "{reference}");
        assert!(bench.notes().is_empty());
    }
    assert_eq!(bench.find(&[file], "bad.example/a").await, None);
    assert!(bench.notes()[0].contains("not `user:password`"));
}

/// The first file that has a login counts; what cannot be read is told and left out.
#[tokio::test]
async fn files_in_their_order() {
    let bench = Bench::new();
    let one = bench.file("one", json!({"auths": {"a.example": login("one:p")}}));
    let two = bench.file("two", json!({"auths": {"a.example": login("two:p"), "b.example": login("two:p")}}));
    let (broken, empty) = (bench.file("broken", "{"), bench.file("empty", ""));
    let missing = bench.path().join("missing");
    let beside_a_file = one.join("config.json");
    for (files, reference, wanted, notes) in [
        (vec![&one, &two], "a.example/x", Some("one:p"), 0),
        (vec![&two, &one], "a.example/x", Some("two:p"), 0),
        (vec![&one, &two], "b.example/x", Some("two:p"), 0),
        (vec![&missing, &beside_a_file, &empty, &two], "a.example/x", Some("two:p"), 0),
        (vec![&broken, &one], "a.example/x", Some("one:p"), 1),
        (vec![&bench.path().to_owned(), &one], "a.example/x", Some("one:p"), 1),
        (vec![&broken], "a.example/x", None, 1),
    ] {
        let files: Vec<PathBuf> = files.into_iter().cloned().collect();
        assert_eq!(bench.find(&files, reference).await.as_deref(), wanted, "{files:?}");
        let said = bench.notes();
        assert_eq!(said.len(), notes, "{said:?}");
    }
}

#[tokio::test]
async fn helpers_before_what_the_file_holds() {
    let bench = Bench::new();
    let asked = bench.path().join("asked");
    let asking = format!("printf '%s ' \"$0\" \"$1\" >>'{0}'; cat >>'{0}'; echo >>'{0}'", asked.display());
    let knows = |user: &str| format!(r#"{asking}; printf '%s' '{{"ServerURL":"x","Username":"{user}","Secret":"s"}}'"#);
    bench.helper("own", &knows("own"));
    bench.helper("all", &knows("all"));
    bench.helper("token", &knows("<token>"));
    bench.helper("none", &format!("{asking}; echo 'credentials not found in native keychain'; exit 1"));
    let auths = json!({"a.example": login("file:p"), "b.example": {}});
    for (config, reference, wanted, server) in [
        (json!({"credHelpers": {"a.example": "own"}, "credsStore": "all"}), "a.example/x", "own:s", "own get a.example"),
        (json!({"credHelpers": {"a.example": "own"}, "credsStore": "all"}), "b.example/x", "all:s", "all get b.example"),
        (json!({"credHelpers": {"docker.io": "own"}}), "lambci/lambda", "own:s", "own get https://index.docker.io/v1/"),
        (json!({"credHelpers": {"https://index.docker.io/v1/": "token"}}), "debian", "token s", "token get https://index.docker.io/v1/"),
        (json!({"credHelpers": {"a.example": "none"}}), "a.example/x", "file:p", "none get a.example"),
        (json!({"credHelpers": {"a.example": "none"}, "credsStore": "all"}), "a.example/x", "all:s", "none get a.example"),
    ] {
        let _ = fs::remove_file(&asked);
        let mut config = config;
        config["auths"] = auths.clone();
        let file = bench.file("config.json", config);
        assert_eq!(bench.find(&[file], reference).await.as_deref(), Some(wanted), "{reference}");
        assert!(bench.said().lines().next().unwrap().ends_with(&format!("docker-credential-{server}")), "{}", bench.said());
        assert!(bench.notes().is_empty());
    }
}

/// What a helper cannot do is told, and what the file itself holds counts, else the next file.
#[tokio::test]
async fn helpers_that_do_not_help() {
    for (name, script, said) in [
        ("missing", None, "there is no program `docker-credential-missing`"),
        ("../../bin/sh", None, "is no name of a helper"),
        ("a b", None, "is no name of a helper"),
        ("fails", Some("echo locked; exit 3"), "failed: locked"),
        ("babbles", Some("echo hello"), "answers in no form that is known"),
        // It would answer a login, and too late.
        ("late", Some("exec sleep 600"), "gave no answer within 0 s"),
    ] {
        let bench = Bench::new();
        if let Some(script) = script {
            bench.helper(name, script);
        }
        let one = bench.file("one", json!({"credsStore": name, "auths": {"a.example": login("one:p")}}));
        let two = bench.file("two", json!({"auths": {"a.example": login("two:p")}}));
        assert_eq!(bench.find(&[one.clone(), two.clone()], "a.example/x").await.as_deref(), Some("one:p"), "{name}");
        let notes = bench.notes();
        bench.file("one", json!({"credsStore": name}));
        assert_eq!(bench.find(&[one, two], "a.example/x").await.as_deref(), Some("two:p"), "{name}");
        assert!(notes.len() == 1 && notes[0].contains(said), "{name}: {notes:?}");
    }
}
