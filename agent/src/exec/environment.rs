//! The environment of a command: the request's over the boot's over a few defaults.

use std::collections::BTreeMap;
use std::ffi::CString;

use msb_protocol::{ExecFailure, ExecRequest, SCRIPTS_DIR};

use super::failure::bad_argument;
use super::{Defaults, c_string};

/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The home of a root that no file describes.
const ROOT_HOME: &str = "/root";

/// The least that every terminal emulator is.
const DEFAULT_TERM: &str = "xterm";

/// Layers the environment. Of two entries with one name the later wins.
pub(super) fn merge(
    request: &ExecRequest,
    defaults: &Defaults,
    home: Option<&str>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    set("PATH", DEFAULT_PATH);
    set("HOME", home.unwrap_or(ROOT_HOME));
    if request.terminal.is_some() {
        set("TERM", DEFAULT_TERM);
    }
    for (name, value) in defaults.env.iter().chain(&request.env) {
        set(name, value);
    }
    if defaults.scripts
        && let Some(path) = env.get_mut("PATH")
        && !path.split(':').any(|directory| directory == SCRIPTS_DIR)
    {
        // An empty one would mean the working directory.
        let rest = if path.is_empty() { "" } else { ":" };
        *path = format!("{SCRIPTS_DIR}{rest}{path}");
    }
    env
}

/// `NAME=value` for the kernel.
pub(super) fn c_strings(env: &BTreeMap<String, String>) -> Result<Vec<CString>, ExecFailure> {
    env.iter()
        .map(|(name, value)| {
            if name.is_empty() || name.contains('=') {
                return Err(bad_argument(&format!(
                    "{name:?} cannot be the name of an environment variable"
                )));
            }
            c_string("an environment variable", &format!("{name}={value}"))
        })
        .collect()
}
