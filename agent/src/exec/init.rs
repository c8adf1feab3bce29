//! The init of the root as something to be executed: what a command is, but for whose place it takes.

use msb_protocol::{ExecFailure, ExecRequest, InitProgram, Stdin};

use super::{Defaults, c_string, environment, open_files};
use crate::sys::process::Command;

/// What a program on the kernel's console is told that it is on.
const TERM: (&str, &str) = ("TERM", "linux");

/// Makes `init`, whose program is the file `program`, ready to be executed.
pub(crate) fn command(
    init: &InitProgram,
    program: &str,
    defaults: &Defaults,
) -> Result<Command, ExecFailure> {
    let mut env = vec![(TERM.0.to_owned(), TERM.1.to_owned())];
    env.extend(defaults.env.iter().chain(&init.env).cloned());
    let request = ExecRequest {
        program: program.to_owned(),
        args: init.args.clone(),
        env,
        cwd: None,
        user: None,
        stdin: Stdin::Null,
        terminal: None,
        limits: Vec::new(),
    };
    let env = environment::merge(&request, defaults, None);
    let argv = [&request.program].into_iter().chain(&request.args);
    Ok(Command {
        candidates: vec![c_string("the program's name", program)?],
        argv: argv
            .map(|argument| c_string("an argument", argument))
            .collect::<Result<_, _>>()?,
        env: environment::c_strings(&env)?,
        cwd: c"/".to_owned(),
        identity: None,
        limits: open_files(defaults).into_iter().collect(),
        restricted: false,
    })
}
