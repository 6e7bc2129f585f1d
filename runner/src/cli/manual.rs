//! What is made from the definition of the command line, and can therefore not disagree with it: manual pages and shell completions.

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Cli;
use crate::exit_code::Failure;

/// The completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "undocked", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The page about the whole program (roff, man(7)).
pub(super) fn first_page() -> Result<String, Failure> {
    page(&Cli::command())
}

/// All pages, each with the name of its file: one about the program, and one about each command that can be seen.
pub(super) fn pages() -> Result<Vec<(String, String)>, Failure> {
    let mut program = Cli::command();
    // Fills in what commands take over from those above them.
    program.build();
    let mut pages = Vec::new();
    add(&program, &mut pages)?;
    Ok(pages)
}

fn add(command: &clap::Command, pages: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((format!("{name}.1"), page(command)?));
    command.get_subcommands().filter(|command| !command.is_hide_set()).try_for_each(|command| add(command, pages))
}

fn page(command: &clap::Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).map_err(|error| Failure::could_not_run(format!("cannot write a manual page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_visible_command_has_a_page() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for wanted in ["undocked.1", "undocked-run.1", "undocked-serve.1", "undocked-lock.1", "undocked-lock-add.1"] {
            assert!(names.contains(&wanted), "{names:?} lacks {wanted}");
        }
        let (_, run) = &pages[names.iter().position(|name| *name == "undocked-run.1").unwrap()];
        assert!(run.contains("\\-\\-volume"), "{run}");
        assert!(!run.contains("attached"), "a hidden option is shown");
    }

    #[test]
    fn every_shell_completes_commands_and_options() {
        for shell in clap_complete::Shell::value_variants() {
            let script = completions(*shell);
            assert!(script.contains("doctor") && script.contains("keep-blobs"), "{shell}: {script}");
        }
    }
}
