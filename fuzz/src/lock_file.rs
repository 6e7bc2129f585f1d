//! A lock file, which comes with a project that somebody else wrote.

use std::path::Path;

use rootfs_cache::lock::LockFile;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "lock_file",
    run,
    seeds,
    words: &[
        "[[image]]\n",
        "[[image.layers]]\n",
        "[[image.note]]\n",
        "reference = ",
        "platform = \"linux/arm64\"\n",
        "status = \"verified\"\n",
        "version = 2\n",
        "runtime = \"nodejs12.x\"\n",
        "\"\"\"",
        "\\u0000",
        "../../",
        "@sha256:",
        "-1",
        "1979-05-27",
        "a.b.c = 1\n",
    ],
    short_run: 1500,
};

fn seeds() -> Vec<Vec<u8>> {
    let whole = LockFile::built_in().to_text();
    let some = whole.split("\n[[image]]\n").take(4).collect::<Vec<_>>().join("\n[[image]]\n");
    let pinned = some.replacen("status = \"unverified\"", "status = \"verified\"", 1);
    [some, pinned, "version = 1\n".to_owned()].map(String::into_bytes).into()
}

/// Refused with a reason, or a file that is written as it was read.
fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let path = Path::new("vendor-images.lock");
    match LockFile::from_text(path, text) {
        Ok(file) => {
            let written = file.to_text();
            let again = LockFile::from_text(path, &written).expect("what is written can be read");
            assert_eq!((&again, again.to_text()), (&file, written));
        }
        Err(error) => assert!(error.to_string().contains("vendor-images.lock"), "{error}"),
    }
}
