//! `portcullis completions` and `portcullis man`: both are made from the commands themselves, so they cannot lag behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Trouble, ended};

#[derive(Args, Debug, Clone, Copy)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Args, Debug, Clone)]
pub(super) struct ManArgs {
    /// A folder for all pages, made where it is missing [default: the main page, printed]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(args: CompletionsArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "portcullis", &mut text);
    print(&text);
    ExitCode::SUCCESS
}

pub(super) fn pages(args: &ManArgs) -> ExitCode {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        print(&page);
        return ended(rendered.map_err(|error| Trouble::Failed(error.to_string())));
    };
    ended(write_all(folder).map_err(|error| Trouble::Failed(format!("{}: {error}", folder.display()))))
}

/// `portcullis.1`, `portcullis-key.1`, `portcullis-key-create.1` and so on.
fn write_all(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}

/// Nobody is left to be told when the reader is gone.
fn print(text: &[u8]) {
    use std::io::Write;
    let _gone = std::io::stdout().write_all(text);
}
