//! The `host` userland: a function run with what this machine itself has, without any image.
//!
//! Chooses the program that speaks to the Runtime API (the function's own `bootstrap`, or a runtime client of ours under this machine's Python or Node)
//! and assembles the root file system. Knows nothing of the sandbox's set-up but what it is given to show.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::sandbox::HostRoot;

#[cfg(test)]
mod client_tests;
mod interpreter;
mod userland;

pub use interpreter::InterpreterError;
use interpreter::Language;

/// Where our runtime clients stand inside.
const CLIENT_FOLDER: &str = "/var/runtime";

/// The runtime of a machine that is itself an AWS Lambda base image, such as a job's container.
const BASE_IMAGE_RUNTIME: &str = "/var/runtime/bootstrap";

/// What of the function decides how it is run.
#[derive(Debug, Clone, Copy)]
pub struct HostFunction<'a> {
    /// The handler.
    pub handler: &'a str,
    /// The host folder shown as `/var/task`.
    pub task: Option<&'a Path>,
    /// The host folders that make up `/opt`.
    pub layers: &'a [PathBuf],
    /// Where interpreters are looked for.
    pub search_path: &'a OsStr,
}

/// How a function is run on this machine.
#[derive(Debug)]
pub struct HostRun {
    /// The root file system.
    pub root: HostRoot,
    /// The command line of our runtime client; none when the function brings its own `bootstrap`, or nothing at all.
    pub client: Option<Vec<String>>,
    /// The folder of the interpreter, to be searched first.
    pub interpreter_dir: Option<String>,
    /// What the user should know about the choice.
    pub note: Option<String>,
}

/// Chooses how to run a function. Without a `bootstrap` the module decides that the handler `folder/module.name` means: a `.py` file is Python's, a `.js`,
/// `.mjs` or `.cjs` file Node's. Where there is none of them nothing is chosen, and the runtime that is then missing is the function's error, as in Lambda.
pub fn choose(function: &HostFunction<'_>) -> Result<HostRun, InterpreterError> {
    let own_runtime =
        || function.task.into_iter().chain(function.layers.iter().map(PathBuf::as_path)).any(|folder| is_file(&folder.join("bootstrap")));
    if own_runtime() {
        return Ok(HostRun { root: userland::root(None), client: None, interpreter_dir: None, note: None });
    }
    if is_file(Path::new(BASE_IMAGE_RUNTIME)) {
        let mut root = userland::root(None);
        root.folders.extend(["/var/runtime", "/var/lang"].map(PathBuf::from).into_iter().filter(|folder| folder.is_dir()));
        let note = Some(format!("this machine is an AWS Lambda base image: its own runtime is used, `{BASE_IMAGE_RUNTIME}`"));
        return Ok(HostRun { root, client: None, interpreter_dir: Some("/var/lang/bin".to_owned()), note });
    }
    let Some(language) = function.task.and_then(|task| language(task, function.handler)) else {
        let note = missing(function);
        return Ok(HostRun { root: userland::root(None), client: None, interpreter_dir: None, note: Some(note) });
    };
    let interpreter = interpreter::find(language, function.search_path)?;
    let (name, text) = client(language);
    let path = format!("{CLIENT_FOLDER}/{name}");
    let mut root = userland::root(Some(&interpreter));
    root.files.push((path.clone().into(), text.to_vec(), 0o644));
    let program = interpreter.program.display().to_string();
    let options = match language {
        Language::Python => &["-u"][..],
        Language::Node => &["--expose-gc", "--max-http-header-size=81920"],
    };
    let client = std::iter::once(program).chain(options.iter().map(|&option| option.to_owned())).chain([path]).collect();
    let interpreter_dir = interpreter.program.parent().map(|folder| folder.display().to_string());
    Ok(HostRun { root, client: Some(client), interpreter_dir, note: None })
}

/// The root for a plain command.
pub fn plain_root() -> HostRoot {
    userland::root(None)
}

fn client(language: Language) -> (&'static str, &'static [u8]) {
    match language {
        Language::Python => ("lambda_client.py", include_bytes!("host/clients/lambda_client.py")),
        Language::Node => ("lambda_client.js", include_bytes!("host/clients/lambda_client.js")),
    }
}

fn language(task: &Path, handler: &str) -> Option<Language> {
    MODULES.iter().find(|(extension, _)| module(task, handler, extension).is_some_and(|path| is_file(&path))).map(|&(_, language)| language)
}

const MODULES: [(&str, Language); 4] = [("py", Language::Python), ("js", Language::Node), ("mjs", Language::Node), ("cjs", Language::Node)];

/// The file that would hold the handler: Python counts the dots from the end and reads them as folders, Node counts them from the file's name on.
fn module(task: &Path, handler: &str, extension: &str) -> Option<PathBuf> {
    let stem = if extension == "py" {
        handler.rsplit_once('.')?.0.replace('.', "/")
    } else {
        let (folder, name) = handler.rsplit_once('/').map_or(("", handler), |(folder, name)| (folder, name));
        format!("{folder}/{}", name.split_once('.')?.0)
    };
    Some(task.join(format!("{}.{extension}", stem.trim_start_matches('/'))))
}

fn missing(function: &HostFunction<'_>) -> String {
    let Some(task) = function.task else {
        return "nothing is shown at /var/task: give the function's folder by `-v DIR:/var/task`".to_owned();
    };
    let modules = MODULES.iter().filter_map(|(extension, _)| module(Path::new(""), function.handler, extension));
    let looked_for: Vec<String> = modules.map(|path| format!("`{}`", path.display())).collect();
    let modules = if looked_for.is_empty() { String::new() } else { format!(", nor any of {}", looked_for.join(", ")) };
    format!("`{}` holds no `bootstrap`{modules}", task.display())
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn the_handlers_file_decides() {
        let python = &["-u", "/var/runtime/lambda_client.py"][..];
        let node = &["--expose-gc", "--max-http-header-size=81920", "/var/runtime/lambda_client.js"][..];
        let tools = tempfile::tempdir().unwrap();
        for name in ["python3", "node"] {
            std::os::unix::fs::symlink("/bin/true", tools.path().join(name)).unwrap();
        }
        for (files, handler, expected) in [
            (&["bootstrap", "index.js"][..], "index.handler", None),
            (&["app.py", "app.js"], "app.handler", Some(python)),
            (&["inner/app.py"], "inner/app.handler", Some(python)),
            (&["inner/app.py"], "inner.app.handler", Some(python)),
            (&["index.js"], "index.handler", Some(node)),
            (&["index.mjs"], "index.nested.handler", Some(node)),
            (&["src/index.cjs"], "src/index.handler", Some(node)),
            (&["index.js"], "other.handler", None),
            (&["index.js"], "index", None),
            (&["app.py/x"], "app.handler", None),
            (&[], "handler", None),
        ] {
            let task = folder(files);
            let function = HostFunction { handler, task: Some(task.path()), layers: &[], search_path: tools.path().as_os_str() };
            let run = choose(&function).unwrap();
            assert_eq!(
                run.client.as_ref().map(|line| line[1..].to_vec()),
                expected.map(|words| words.iter().map(|&word| word.to_owned()).collect()),
                "{files:?}"
            );
            assert_eq!(run.note.is_some(), expected.is_none() && files.first() != Some(&"bootstrap"), "{files:?}: {:?}", run.note);
        }
    }

    #[test]
    fn a_layer_may_bring_the_runtime() {
        let (task, layer) = (folder(&["index.js"]), folder(&["bootstrap"]));
        let layers = [layer.path().to_owned()];
        let function = HostFunction { handler: "index.handler", task: Some(task.path()), layers: &layers, search_path: OsStr::new("") };
        assert!(choose(&function).unwrap().client.is_none());
    }

    #[test]
    fn what_is_missing_is_named() {
        let task = folder(&[]);
        let function = HostFunction { handler: "a.b", task: Some(task.path()), layers: &[], search_path: OsStr::new("") };
        let note = choose(&function).unwrap().note.unwrap();
        assert!(note.ends_with("holds no `bootstrap`, nor any of `a.py`, `a.js`, `a.mjs`, `a.cjs`"), "{note}");
        let with_module = folder(&["a.py"]);
        let error = choose(&HostFunction { task: Some(with_module.path()), ..function }).unwrap_err();
        assert_eq!(error.to_string(), "no Python interpreter (`python3`, `python`) is in PATH");
    }
}
