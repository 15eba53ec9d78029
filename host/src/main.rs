//! The `pillion` program. Everything is in the library; see `cli`.

fn main() -> std::process::ExitCode {
    pillion::cli::main()
}
