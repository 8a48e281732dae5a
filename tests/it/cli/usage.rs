use crate::harness::command::turnwise;

#[test]
fn help_and_version_everywhere() {
    let version = turnwise(&["--version"]);
    assert_eq!((version.code, version.stdout.trim()), (0, concat!("turnwise ", env!("CARGO_PKG_VERSION"))));
    for command in [vec![], vec!["serve"], vec!["check"], vec!["explain"], vec!["demo"], vec!["stress"]] {
        let help = turnwise(&[command.as_slice(), &["--help"]].concat());
        assert_eq!(help.code, 0, "{command:?}");
        assert!(help.stdout.contains("Usage"), "{command:?}: {}", help.stdout);
    }
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [
        &["frobnicate"][..],
        &["serve", "--nonsense"],
        &["check", "--format", "xml"],
        &["explain"],
        &["explain", "GET"],
    ] {
        let output = turnwise(arguments);
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.all());
        assert!(!output.stderr.is_empty());
    }
}
