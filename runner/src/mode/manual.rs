//! `undocked man DIR`: writes the manual pages.

use std::path::Path;

use crate::exit_code::{ExitCode, Failure};

/// Writes each page to the file of its name in `directory`, which is made if it is missing.
pub fn run(pages: &[(String, String)], directory: &Path) -> Result<ExitCode, Failure> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error| Failure::could_not_run(format!("cannot write `{path}`: {error}")).with_hint(Some("name a folder of yours".to_owned()))
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (name, page) in pages {
        let path = directory.join(name);
        std::fs::write(&path, page).map_err(failed(&path))?;
    }
    Ok(ExitCode::SUCCESS)
}
