//! What stands between a sandbox's VMM and the host: what is asked for, and what is kept of the VMM's word.

use msb_types::IsolationLevel;
pub use msb_vmapi::{Isolation, Layer, LayerReport, Requirement, Strength};

/// The longest detail that is kept, in characters.
const MAX_DETAIL: usize = 200;

/// What a level asks of each layer. `root`: the VMM is started by root, who has a user to give up.
pub fn requirements(level: IsolationLevel, root: bool) -> Vec<Requirement> {
    let needed = |layer| match layer {
        Layer::NoNewPrivileges
        | Layer::Seccomp
        | Layer::Descriptors
        | Layer::Environment
        | Layer::NotDumpable => Some(Strength::Full),
        Layer::OwnUser if !root => None,
        _ if level == IsolationLevel::Full => Some(Strength::Full),
        Layer::Landlock if level >= IsolationLevel::Landlock => Some(Strength::Partial),
        _ => None,
    };
    Layer::ALL
        .into_iter()
        .filter_map(|layer| needed(layer).map(|strength| Requirement { layer, strength }))
        .collect()
}

/// A VMM's report as it is kept: it comes from a process that a guest may own by then, so each layer counts once,
/// and details are short and of printable characters.
pub fn bounded(isolation: Isolation) -> Isolation {
    let mut layers: Vec<LayerReport> = Vec::new();
    for mut report in isolation.layers {
        if layers.iter().any(|kept| kept.layer == report.layer) {
            continue;
        }
        report.detail = report.detail.map(|detail| {
            let printable = detail.chars().filter(|c| !c.is_control());
            printable.take(MAX_DETAIL).collect()
        });
        layers.push(report);
    }
    Isolation { layers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(layer: Layer, strength: Strength) -> LayerReport {
        LayerReport {
            layer,
            strength,
            detail: None,
        }
    }

    /// As on a host without user namespaces, with an early landlock.
    fn weak() -> Isolation {
        let layers = Layer::ALL.into_iter().filter_map(|layer| match layer {
            Layer::OwnUser => None,
            Layer::Landlock | Layer::Capabilities => Some(report(layer, Strength::Partial)),
            Layer::UserNamespace | Layer::EmptyRoot => Some(report(layer, Strength::Missing)),
            _ => Some(report(layer, Strength::Full)),
        });
        Isolation {
            layers: layers.collect(),
        }
    }

    fn unmet(isolation: &Isolation, level: IsolationLevel, root: bool) -> Vec<Layer> {
        let required = requirements(level, root);
        isolation.unmet(&required).map(|it| it.layer).collect()
    }

    #[test]
    fn each_level_asks_for_more() {
        let levels = [
            IsolationLevel::Seccomp,
            IsolationLevel::Landlock,
            IsolationLevel::Full,
        ];
        for pair in levels.windows(2) {
            let [less, more] = pair else { unreachable!() };
            assert!(less < more);
            for wanted in requirements(*less, true) {
                assert!(
                    requirements(*more, true)
                        .iter()
                        .any(|it| { it.layer == wanted.layer && it.strength >= wanted.strength })
                );
            }
        }
        assert_eq!(
            requirements(IsolationLevel::Full, true).len(),
            Layer::ALL.len()
        );
    }

    #[test]
    fn a_weak_host_meets_what_it_can() {
        let mut host = weak();
        assert_eq!(unmet(&host, IsolationLevel::Seccomp, false), []);
        assert_eq!(unmet(&host, IsolationLevel::Landlock, false), []);
        let missing = [
            Layer::UserNamespace,
            Layer::EmptyRoot,
            Layer::Landlock,
            Layer::Capabilities,
        ];
        assert_eq!(unmet(&host, IsolationLevel::Full, false), missing);
        assert_eq!(unmet(&host, IsolationLevel::Full, true).len(), 5);
        for it in &mut host.layers {
            it.strength = Strength::Full;
        }
        assert_eq!(unmet(&host, IsolationLevel::Full, false), []);
        // One that says nothing has nothing.
        let nothing = Isolation::default();
        assert!(!unmet(&nothing, IsolationLevel::Seccomp, false).is_empty());
    }

    #[test]
    fn what_is_kept_of_a_report_is_bounded() {
        let mut told = report(Layer::Landlock, Strength::Missing);
        told.detail = Some(format!("\u{1b}[2J\n{}", "x".repeat(4000)));
        let again = report(Layer::Landlock, Strength::Full);
        let kept = bounded(Isolation {
            layers: [vec![told], vec![again; 1000]].concat(),
        });
        assert_eq!(kept.layers.len(), 1);
        let detail = kept.layers[0].detail.as_deref().unwrap();
        assert!(detail.starts_with("[2Jx") && detail.len() == MAX_DETAIL);
        assert_eq!(kept.strength(Layer::Landlock), Strength::Missing);
    }
}
