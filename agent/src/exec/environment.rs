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

#[cfg(test)]
mod tests {
    use msb_protocol::Stdin;

    use super::*;

    fn path(scripts: bool, own: Option<&str>) -> String {
        let request = ExecRequest {
            program: "true".to_owned(),
            args: Vec::new(),
            env: own
                .map(|path| ("PATH".to_owned(), path.to_owned()))
                .into_iter()
                .collect(),
            cwd: None,
            user: None,
            stdin: Stdin::Null,
            terminal: None,
            limits: Vec::new(),
        };
        let defaults = Defaults {
            scripts,
            ..Defaults::default()
        };
        merge(&request, &defaults, None)["PATH"].clone()
    }

    #[test]
    fn scripts_are_found_first_in_whatever_path_there_is() {
        assert_eq!(path(false, None), DEFAULT_PATH);
        assert_eq!(path(true, None), format!("{SCRIPTS_DIR}:{DEFAULT_PATH}"));
        assert_eq!(path(true, Some("/opt")), format!("{SCRIPTS_DIR}:/opt"));
        assert_eq!(path(true, Some("")), SCRIPTS_DIR);
        let own = format!("/opt:{SCRIPTS_DIR}");
        assert_eq!(path(true, Some(&own)), own, "not twice");
    }
}
