//! Which files a program's name may mean, in the order of `execvp(3)`.

use std::ffi::CString;

use msb_protocol::ExecFailure;

use super::c_string;
use super::failure::{bad_argument, not_found};

/// The paths to try. A name with a slash is a path; any other is looked for in each
/// directory of `path`, where an empty one means the working directory.
pub(super) fn candidates(program: &str, path: &str) -> Result<Vec<CString>, ExecFailure> {
    if program.is_empty() {
        return Err(bad_argument("the program's name is empty"));
    }
    if program.contains('/') {
        return Ok(vec![c_string("the program's name", program)?]);
    }
    let found: Result<Vec<_>, _> = path
        .split(':')
        .map(|directory| match directory {
            "" => c_string("the program's name", program),
            _ => c_string("the program's name", &format!("{directory}/{program}")),
        })
        .collect();
    match found {
        Ok(found) if found.is_empty() => Err(not_found(program)),
        other => other,
    }
}
