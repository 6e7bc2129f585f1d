use std::env;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Far longer than any change takes to be told.
const LONG: Duration = Duration::from_secs(20);
/// Far longer than what is waited for after a change.
const STILL: Duration = Duration::from_millis(300);

struct Scene {
    folder: TempDir,
    watcher: Watcher,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("task/sub")).unwrap();
        fs::write(folder.path().join("task/index.js"), "1").unwrap();
        let watcher = Watcher::new(&[folder.path().join("task")]).unwrap();
        Self { folder, watcher }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("task").join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), "2").unwrap();
    }

    #[track_caller]
    fn expect(&mut self, name: &str) -> impl Future<Output = ()> {
        let path = self.path(name);
        async move {
            let told = timeout(LONG, self.watcher.changed()).await.expect("a change is told");
            assert_eq!(told, path);
            self.expect_nothing().await;
        }
    }

    async fn expect_nothing(&mut self) {
        if let Ok(path) = timeout(STILL, self.watcher.changed()).await {
            panic!("a change is told of {}", path.display());
        }
    }
}

#[tokio::test]
async fn files_written_made_moved_and_removed() {
    let mut scene = Scene::new();
    scene.expect_nothing().await;
    scene.write("index.js");
    scene.expect("index.js").await;
    scene.write("sub/new.js");
    scene.expect("sub/new.js").await;
    fs::rename(scene.path("sub/new.js"), scene.path("index.js")).unwrap();
    scene.expect("sub/new.js").await;
    fs::remove_file(scene.path("index.js")).unwrap();
    scene.expect("index.js").await;
}

#[tokio::test]
async fn an_editor_that_renames_over() {
    let mut scene = Scene::new();
    let beside = scene.folder.path().join("beside");
    fs::write(&beside, "3").unwrap();
    fs::rename(&beside, scene.path("index.js")).unwrap();
    scene.expect("index.js").await;
    scene.write("index.js");
    scene.expect("index.js").await;
}

#[tokio::test]
async fn new_folders_are_watched_with_all_in_them() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.path("a/b/c")).unwrap();
    scene.expect("a").await;
    scene.write("a/b/c/file");
    scene.expect("a/b/c/file").await;
    // Moved there from elsewhere; and out again, after which it is no concern.
    let beside = scene.folder.path().join("beside");
    fs::create_dir_all(beside.join("inner")).unwrap();
    fs::rename(&beside, scene.path("moved")).unwrap();
    scene.expect("moved").await;
    scene.write("moved/inner/file");
    scene.expect("moved/inner/file").await;
    fs::rename(scene.path("moved"), &beside).unwrap();
    scene.expect("moved").await;
    fs::write(beside.join("inner/file"), "4").unwrap();
    scene.expect_nothing().await;
}

#[tokio::test]
async fn a_burst_is_one_change() {
    let mut scene = Scene::new();
    for number in 0..1000 {
        scene.write(&format!("file{number}"));
    }
    scene.expect("file0").await;
}

#[tokio::test]
async fn what_never_rests_is_told_all_the_same() {
    let mut scene = Scene::new();
    let (path, (stop, mut stopped)) = (scene.path("log"), tokio::sync::oneshot::channel::<()>());
    let writer = tokio::spawn(async move {
        let mut file = fs::File::create(path).unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while stopped.try_recv().is_err() {
            file.write_all(b"x").unwrap();
            tick.tick().await;
        }
    });
    for _ in 0..2 {
        timeout(LONG, scene.watcher.changed()).await.expect("a change is told");
    }
    stop.send(()).unwrap();
    writer.await.unwrap();
}

#[tokio::test]
async fn reads_links_and_rights_are_no_changes_and_touching_is() {
    let mut scene = Scene::new();
    fs::read(scene.path("index.js")).unwrap();
    fs::read_dir(scene.path("sub")).unwrap().count();
    scene.expect_nothing().await;
    // Both times at once, as `touch` does it: one alone is told by the kernel as if the file had been written or read.
    let times = |time| fs::FileTimes::new().set_accessed(time).set_modified(time);
    let set = |path: PathBuf, time| fs::File::open(path).unwrap().set_times(times(time)).unwrap();
    set(scene.path("index.js"), SystemTime::now() - Duration::from_secs(3600));
    fs::hard_link(scene.path("index.js"), scene.folder.path().join("link")).unwrap();
    fs::set_permissions(scene.path("index.js"), PermissionsExt::from_mode(0o640)).unwrap();
    scene.expect_nothing().await;
    set(scene.path("index.js"), SystemTime::now());
    scene.expect("index.js").await;
}

#[tokio::test]
async fn what_tools_keep_for_themselves_is_no_change() {
    let mut scene = Scene::new();
    for name in ["index.js~", ".index.js.swp", "4913", ".#index.js"] {
        scene.write(name);
    }
    for name in ["__pycache__", ".git"] {
        fs::create_dir(scene.path(name)).unwrap();
        scene.write(&format!("{name}/file"));
    }
    scene.expect_nothing().await;
}

#[tokio::test]
async fn a_root_may_go_and_come() {
    let mut scene = Scene::new();
    let task = scene.folder.path().join("task");
    for round in 0..3 {
        if round == 1 {
            fs::rename(&task, scene.folder.path().join("old")).unwrap();
        } else {
            fs::remove_dir_all(&task).unwrap();
        }
        timeout(LONG, scene.watcher.changed()).await.expect("its end is told");
        scene.expect_nothing().await;
        fs::create_dir(&task).unwrap();
        scene.expect("").await;
        scene.write("index.js");
        scene.expect("index.js").await;
    }
    // At once, as builds do it.
    fs::remove_dir_all(&task).unwrap();
    fs::create_dir_all(task.join("sub")).unwrap();
    timeout(LONG, scene.watcher.changed()).await.expect("it is told");
    scene.expect_nothing().await;
    scene.write("sub/file");
    scene.expect("sub/file").await;
}

#[tokio::test]
async fn a_root_may_be_a_file_or_not_there_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (file, late) = (folder.path().join("app.py"), folder.path().join("x/y/task"));
    fs::write(&file, "1").unwrap();
    let mut watcher = Watcher::new(&[file.clone(), late.clone()]).unwrap();
    let mut told = async || timeout(LONG, watcher.changed()).await.expect("a change is told");
    fs::write(folder.path().join("other"), "1").unwrap();
    fs::write(&file, "2").unwrap();
    assert_eq!(told().await, file);
    fs::write(folder.path().join("new"), "3").unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    assert_eq!(told().await, file);
    fs::create_dir_all(&late).unwrap();
    assert!(late.starts_with(told().await));
    fs::write(late.join("file"), "1").unwrap();
    assert_eq!(told().await, late.join("file"));
}

#[tokio::test]
async fn waiting_may_be_given_up_at_any_time() {
    let mut scene = Scene::new();
    scene.write("index.js");
    let mut rounds = 0;
    let path = loop {
        // Each time it is polled at least once.
        if let Ok(path) = timeout(Duration::from_millis(1), scene.watcher.changed()).await {
            break path;
        }
        rounds += 1;
        assert!(rounds < 20_000, "never told");
    };
    assert_eq!(path, scene.path("index.js"));
}

/// The limit is each user namespace's own: the test runs itself once more in one that may watch three folders (user_namespaces(7)).
#[test]
fn too_many_folders_are_told_and_the_others_watched() {
    const LIMITED: &str = "UNDOCKED_TESTS_THREE_WATCHES";
    const NAME: &str = "watch::tests::too_many_folders_are_told_and_the_others_watched";
    if env::var_os(LIMITED).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(three_watches());
    }
    let limited = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"";
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-Ur", "sh", "-c", script]).arg(env::current_exe().unwrap()).args(["--exact", NAME]).env(LIMITED, "1");
        command.output()
    };
    if !in_namespace("true").is_ok_and(|ran| ran.status.success()) {
        eprintln!("skipped: this machine grants no user namespace");
        return;
    }
    let ran = in_namespace(limited).unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ran.stderr));
}

async fn three_watches() {
    let mut scene = Scene::new();
    assert!(scene.watcher.trouble().is_none());
    for name in ["a", "b", "c"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    scene.expect("a").await;
    assert!(matches!(scene.watcher.trouble(), Some(WatchError::TooMany { folder }) if folder == scene.path("b")));
    assert!(scene.watcher.trouble().is_none());
    scene.write("b/unseen");
    scene.expect_nothing().await;
    scene.write("a/seen");
    scene.expect("a/seen").await;
}

#[test]
fn troubles_have_hints() {
    let error = WatchError::TooMany { folder: "/task/a".into() };
    assert!(error.to_string().contains("`/task/a`") && error.hint().contains("fs.inotify.max_user_watches"));
    let error = WatchError::Start { source: io::Error::from_raw_os_error(libc::EMFILE) };
    assert!(error.hint().contains("fs.inotify.max_user_instances"));
}
