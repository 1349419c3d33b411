//! The `plimsoll` binary: parses the command line and hands over to `cli`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
