use crate::harness::{Gateway, Recorder, get};

#[test]
fn dot_segments_are_refused_plain_or_encoded() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for target in ["/a/../b", "/..", "/.", "/a/./b", "/a/%2e%2e/b", "/%2E./b", "/a/.%2e", "/a/%2e"] {
        gateway.ask(&get(target)).assert_problem(400, "bad_request");
    }
    assert_eq!(upstream.count(), 0);
    for target in ["/a/...", "/a/..b", "/.well-known/x", "/a?x=../b", "/a/b..c"] {
        gateway.ask(&get(target)).assert_ok();
    }
    assert_eq!(upstream.targets(), ["/a/...", "/a/..b", "/.well-known/x", "/a?x=../b", "/a/b..c"]);
}
