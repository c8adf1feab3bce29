//! Kernel configuration fragments: the lines we ask for, compared with what the kernel's own
//! configuration made of them.
//!
//! Kconfig drops an option whose dependencies are off without a word, and turns another back on when
//! something selects it. So the finished `.config` is checked line by line.

use std::collections::HashMap;

/// The options of a fragment or a `.config` that have a value, in order. "Not set" is `n`.
pub(crate) fn parse(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("# CONFIG_") {
                let name = rest.strip_suffix(" is not set")?;
                // Give the name back with its prefix.
                let start = line.len() - rest.len() - "CONFIG_".len();
                return Some((&line[start..start + "CONFIG_".len() + name.len()], "n"));
            }
            if !line.starts_with("CONFIG_") {
                return None;
            }
            line.split_once('=')
        })
        .collect()
}

/// What the fragment asks for and the configuration does not have, one sentence each.
pub(crate) fn unmet(fragment: &str, config: &str) -> Vec<String> {
    let have: HashMap<&str, &str> = parse(config).into_iter().collect();
    parse(fragment)
        .into_iter()
        .filter_map(|(name, wanted)| {
            let got = have.get(name).copied().unwrap_or("n");
            (got != wanted).then(|| format!("{name}: asked for {wanted}, got {got}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_comments_and_unset_lines() {
        let text = "# a comment\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n";
        assert_eq!(
            parse(text),
            [
                ("CONFIG_A", "y"),
                ("CONFIG_B", "n"),
                ("CONFIG_C", "\"x=y\"")
            ]
        );
    }

    #[test]
    fn dropped_and_selected_options_are_named() {
        let fragment = "CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=4\nCONFIG_D=n\n";
        let config = "CONFIG_B=y\nCONFIG_C=4\n# CONFIG_D is not set\n";
        assert_eq!(
            unmet(fragment, config),
            [
                "CONFIG_A: asked for y, got n",
                "CONFIG_B: asked for n, got y"
            ]
        );
    }

    #[test]
    fn our_fragment_has_no_option_twice() {
        let mut names: Vec<_> = parse(super::super::kernel::FRAGMENT)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 100);
    }
}
