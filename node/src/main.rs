//! The `pakt` binary: everything is in the library.

fn main() -> std::process::ExitCode {
    pakt_node::cli::main()
}
