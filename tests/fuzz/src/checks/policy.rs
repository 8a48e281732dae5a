//! Policy files: none makes the compiler panic, each means the same whenever it is compiled, and what `GET /config` shows
//! of one that holds is a policy file that means the same.

use turnwise::policy::compile::compile;

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "NUMBER" => "17",
        "EMPTY" => "",
        "TEXT" => "a: [b, #c",
        "AGAIN" => "${NUMBER}",
        "LINES" => "x\n- y: 'z",
        "URL" => "http://127.0.0.1:8000",
        _ => return None,
    };
    Some(value.to_owned())
}

/// As the module says.
pub fn check(bytes: &[u8]) {
    let compiled = compile("gateway.yaml", bytes, &environment);
    let again = compile("gateway.yaml", bytes, &environment);
    let (compiled, again) = match (compiled, again) {
        (Ok(compiled), Ok(again)) => (compiled, again),
        (Err(problems), Err(again)) => {
            assert_eq!(problems, again);
            assert!(!problems.as_slice().is_empty());
            let lines = String::from_utf8_lossy(bytes).split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            for problem in problems.as_slice() {
                assert!((1..=lines + 1).contains(&problem.line) && problem.column >= 1, "{problem}");
                assert!(!problem.to_string().is_empty());
            }
            return;
        }
        (compiled, again) => panic!("{compiled:?} and then {again:?}"),
    };
    assert_eq!(compiled.policy, again.policy);
    assert_eq!(compiled.warnings, again.warnings);
    let policy = compiled.policy;
    // What fields must be is hidden, so what is shown is another policy. Of an exempt route a priority is shown, which it
    // must not be given.
    if policy.routes.iter().any(|route| !route.matching.headers.is_empty()) {
        return;
    }
    // What is shown has nothing to be replaced; where it looks as if it had, it says so.
    let shown = policy.shown().to_string().replace("${", "$${");
    match compile("gateway.yaml", shown.as_bytes(), &|_| None) {
        Ok(read) => assert_eq!(read.policy, policy, "{shown}"),
        Err(problems) => panic!("{problems}\nof what is shown:\n{shown}"),
    }
}
