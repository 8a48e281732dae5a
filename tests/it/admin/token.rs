use crate::harness::{Connection, Gateway, Recorder, Response, get, post, request};

/// Asks the admin port with exactly these fields.
fn with(gateway: &Gateway, asked: crate::harness::Request) -> Response {
    Connection::open(gateway.admin).ask(&asked).response()
}

#[test]
fn what_tells_or_changes_something_needs_it_and_probes_do_not() {
    let upstream = Recorder::start();
    let mut gateway =
        Gateway::laid_out(&upstream.url(), "admin: { listen: \"{admin}\", token_file: token }\n", |folder, text| {
            let file = folder.join("token");
            std::fs::write(&file, "s3cret\n").expect("a file");
            let text = text.replace("token_file: token", &format!("token_file: \"{}\"", file.display()));
            std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
        });
    for path in ["/metrics", "/-/healthy", "/-/ready", "/health"] {
        assert_eq!(with(&gateway, get(path)).status, 200, "{path}");
    }
    let guarded = || {
        [
            get("/status"),
            get("/sessions"),
            get("/sessions/a"),
            get("/session?key=a"),
            get("/history"),
            get("/config"),
            post("/-/reload", ""),
            post("/-/drain", ""),
            request("DELETE", "/sessions/a"),
            request("DELETE", "/session?key=a"),
        ]
    };
    for asked in guarded() {
        let refused = with(&gateway, asked.clone());
        assert_eq!(refused.status, 401, "{asked:?}");
        assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        for wrong in ["Bearer wrong", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret2", "Bearer s3cre"] {
            assert_eq!(with(&gateway, asked.clone().header("Authorization", wrong)).status, 401, "{wrong}");
        }
    }
    assert_eq!(with(&gateway, get("/status").header("Authorization", "Bearer s3cret")).status, 200);
    assert_eq!(with(&gateway, get("/config").header("Authorization", "bearer s3cret")).status, 200);
    assert!(!with(&gateway, get("/config").header("Authorization", "Bearer s3cret")).text().contains("s3cret"));
    gateway.use_token("s3cret");
}
