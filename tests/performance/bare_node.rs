//! Node and an image's runtime client with nothing around them: what is left when a runner costs nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tests::wire::{Reply, Server};

/// The runtime client that belongs to `/var/lang/bin/node` of an unpacked image.
pub fn client(node: &Path) -> PathBuf {
    node.ancestors().nth(3).expect("a root").join("runtime/index.js")
}

/// What any runner has to wait for: Node, the image's runtime client, one event and its answer.
pub fn answer_once(node: &Path, client: &Path, task: &Path) {
    let (answered, answer) = mpsc::channel();
    let handed_out = AtomicBool::new(false);
    let api = Server::start(move |request| {
        if request.method == "POST" {
            let _ = answered.send(());
            return Reply::new(202, "{\"status\":\"OK\"}");
        }
        if handed_out.swap(true, Ordering::SeqCst) {
            // The second `next` ends the client.
            return Reply::new(500, "over").cut_after(0);
        }
        Reply::new(200, "{\"n\":1}").header("Lambda-Runtime-Aws-Request-Id", "1").header("Lambda-Runtime-Deadline-Ms", "9999999999999")
    });
    let mut child = Command::new(node)
        .env_clear()
        .args(["--expose-gc", "--max-http-header-size", "81920"])
        .arg(client)
        .env("AWS_LAMBDA_RUNTIME_API", api.address())
        .env("_HANDLER", "index.handler")
        .env("LAMBDA_TASK_ROOT", task)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("node starts");
    answer.recv_timeout(Duration::from_secs(20)).expect("an answer comes");
    let _ = child.kill();
    let _ = child.wait();
}
