//! The command line: one file a verb. Only here is anything printed, and errors are told to people.
//!
//! Exit codes: 0 fine, 1 findings or failure, 2 wrong usage, or cases that cannot be played; 130
//! when Ctrl-C ends the watching of a rollout.

mod ask;
mod compile;
mod demo;
mod demo_app;
mod dev;
mod filter;
mod local;
mod rollout;
mod run;
mod schema;
mod status;
mod test;
mod validate;

use crate::reload::chain;
use crate::wasm;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// The configuration file where none is named.
pub const CONFIG_DEFAULT: &str = "./pillion.toml";

/// A sidecar proxy extended with WebAssembly filters.
#[derive(Debug, Parser)]
#[command(name = "pillion", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve traffic as a configuration file says
    Run(run::Arguments),
    /// Say everything that is wrong with a configuration file and its filters
    Validate(validate::Arguments),
    /// Print the JSON Schema of the configuration file or of case files, for editors
    Schema(schema::Arguments),
    /// Compile filters ahead of time, into the cache
    Compile(compile::Arguments),
    /// Make, build and look at filters
    Filter(filter::Arguments),
    /// Develop a filter: on every save, build it, play its cases, swap it into a running sidecar
    Dev(dev::Arguments),
    /// Play the cases of a filter, and tell what differs
    Test(test::Arguments),
    /// Show what a running sidecar is doing
    Status(status::Arguments),
    /// Try a component as the next version of a filter, step by step, and roll it back if it is worse
    Swap(rollout::SwapArguments),
    /// Show how the rollout in progress goes, or how the last one ended
    Rollout(rollout::ShowArguments),
    /// Go to the next step of the rollout in progress
    Promote(rollout::PromoteArguments),
    /// End the rollout in progress, or return to an earlier generation or version of a filter
    Rollback(rollout::RollbackArguments),
    /// List the generations that can be returned to, and the versions that were found bad
    Generations(rollout::GenerationsArguments),
    /// Let a version be tried again that was found bad
    Unpin(rollout::UnpinArguments),
    /// Try everything out: an app, a sidecar before it, and commands to try
    Demo(demo::Arguments),
}

/// The program.
pub fn main() -> ExitCode {
    // The process that compiles a filter is this program too; nothing else of it runs there.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some((verb, rest)) = arguments.split_first()
        && verb == wasm::compile::SUBCOMMAND
    {
        return wasm::compile::child_main(rest);
    }
    // While this is the only thread. Where the kernel cannot, guests cost a little more.
    let _ = wasm::register_barrier();
    let done = match Arguments::parse().verb {
        Verb::Run(arguments) => run::main(arguments),
        Verb::Validate(arguments) => validate::main(arguments),
        Verb::Schema(arguments) => schema::main(&arguments),
        Verb::Compile(arguments) => compile::main(arguments),
        Verb::Dev(arguments) => dev::main(arguments),
        Verb::Filter(arguments) => filter::main(arguments),
        Verb::Test(arguments) => test::main(arguments),
        Verb::Status(arguments) => status::main(&arguments),
        Verb::Swap(arguments) => rollout::swap(&arguments),
        Verb::Rollout(arguments) => rollout::show(&arguments),
        Verb::Promote(arguments) => rollout::promote(&arguments),
        Verb::Unpin(arguments) => rollout::unpin(&arguments),
        Verb::Rollback(arguments) => rollout::rollback(&arguments),
        Verb::Generations(arguments) => rollout::generations(&arguments),
        Verb::Demo(arguments) => demo::main(arguments),
    };
    done.unwrap_or_else(|error| {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|it| it.kind() == io::ErrorKind::BrokenPipe)
        {
            // Whoever read has seen enough, as in `pillion schema | head`.
            return ExitCode::SUCCESS;
        }
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{}", chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// Prints a line, or several.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn usage_mistakes_are_exit_code_2() {
        for wrong in [&["pillion", "run", "--nonsense"][..], &["pillion", "fly"], &["pillion"]] {
            let error = Arguments::try_parse_from(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
