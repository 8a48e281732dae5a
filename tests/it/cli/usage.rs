use crate::harness::command::turnwise;

#[test]
fn help_and_version_everywhere() {
    let version = turnwise(&["--version"]);
    assert_eq!((version.code, version.stdout.trim()), (0, concat!("turnwise ", env!("CARGO_PKG_VERSION"))));
    for command in [
        vec![],
        vec!["serve"],
        vec!["check"],
        vec!["explain"],
        vec!["demo"],
        vec!["stress"],
        vec!["schema"],
        vec!["reference"],
    ] {
        let help = turnwise(&[command.as_slice(), &["--help"]].concat());
        assert_eq!(help.code, 0, "{command:?}");
        assert!(help.stdout.contains("Usage"), "{command:?}: {}", help.stdout);
        let version = turnwise(&[command.as_slice(), &["--version"]].concat());
        assert_eq!(version.code, 0, "{command:?}");
        assert!(version.stdout.trim().ends_with(env!("CARGO_PKG_VERSION")), "{command:?}: {}", version.stdout);
    }
}

#[test]
fn shells_and_readers_of_manuals_are_served() {
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef turnwise"), ("fish", "complete -c turnwise")] {
        let output = turnwise(&["completions", shell]);
        assert_eq!(output.code, 0, "{}", output.all());
        assert!(output.stdout.contains(words) && output.stdout.contains("stress"), "{shell}");
    }
    let folder = tempfile::TempDir::new().expect("a folder");
    let output = turnwise(&["man", folder.path().to_str().expect("plain")]);
    assert_eq!(output.code, 0, "{}", output.all());
    for page in ["turnwise.1", "turnwise-serve.1", "turnwise-check.1", "turnwise-stress.1"] {
        let text = std::fs::read_to_string(folder.path().join(page)).expect(page);
        assert!(text.contains(".SH SYNOPSIS") && text.contains("turnwise"), "{page}");
    }
    assert_eq!(turnwise(&["man", "/nowhere/at/all"]).code, 1);
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in [
        &["frobnicate"][..],
        &["serve", "--nonsense"],
        &["serve", "--log-level", "inof"],
        &["check", "--format", "xml"],
        &["explain"],
        &["explain", "GET"],
    ] {
        let output = turnwise(arguments);
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.all());
        assert!(!output.stderr.is_empty());
    }
}
