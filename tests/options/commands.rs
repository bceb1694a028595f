//! Options of commands other than the server.

use std::fs;

use crate::support::{Ratekeeper, ask, free_port, typed};

#[test]
fn variables_of_the_server_are_nothing_to_other_commands() {
    let printed = typed(["schema"], [("SHADOW_MODE", "x"), ("LOG_LEVEL", "5")]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
}

#[test]
fn a_command_comes_to_the_same_when_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("wrong.yaml"), "domain: [").unwrap();
    let script = r#"{ "$0" check "$1" 2>&1; echo $? > "$2"; } | true"#;
    let shell = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_ratekeeper")])
        .args([at("wrong.yaml"), at("code")])
        .status();
    assert!(shell.unwrap().success());
    assert_eq!(fs::read_to_string(at("code")).unwrap(), "1\n");
}

#[test]
fn hit_says_what_listens_instead_of_grpc() {
    let server = Ratekeeper::start(
        "domain: d\ndescriptors: [{key: k, rate_limit: {unit: year, requests_per_unit: 5}}]\n",
        [],
    );
    let hit = |address: &str, domain: &str| typed(["hit", "-a", address, domain, "k=v"], []);
    for http in [server.http(), server.debug()] {
        let address = http.address().to_string();
        let printed = hit(&address, "d");
        assert_eq!(printed.code, 1, "{}", printed.stdout);
        let says = format!(
            "error: cannot reach {address} over gRPC: this is an HTTP port; use the gRPC port (default 8081)"
        );
        assert_eq!(printed.stderr.trim(), says);
    }
    // Something that closes what it accepts.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let closes = std::thread::spawn(move || listener.incoming().take(20).for_each(drop));
    let printed = hit(&address, "d");
    assert_eq!(printed.code, 1, "{}", printed.stdout);
    assert!(
        printed
            .stderr
            .contains("the server closed the connection; check that this is the gRPC port"),
        "{}",
        printed.stderr
    );
    drop(closes);
    // Nothing at all.
    let printed = hit(&format!("127.0.0.1:{}", free_port()), "d");
    assert!(
        printed.stderr.contains("is ratekeeper running there?"),
        "{}",
        printed.stderr
    );

    let address = server.address().to_string();
    let printed = hit(&address, "nowhere");
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    for part in [
        "no limit applies",
        "check that 'nowhere' is a domain of this server",
        "ratekeeper explain",
    ] {
        assert!(printed.stdout.contains(part), "{}", printed.stdout);
    }
    let printed = hit(&address, "d");
    assert!(
        !printed.stdout.contains("no rule matched"),
        "{}",
        printed.stdout
    );
    // What the server itself says stays as it is.
    let printed = hit(&address, "");
    assert!(printed.stderr.contains("domain"), "{}", printed.stderr);
    assert!(!printed.stderr.contains("over gRPC"), "{}", printed.stderr);
}

#[test]
fn check_warns_and_is_strict_when_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let path = file.to_str().unwrap();
    fs::write(
        &file,
        "domain: d\ndescriptors:\n- key: path\n  name: per path\n  value: ^/api/.*$\n  rate_limit: {unit: day, requests_per_unit: 5}\n- {key: path, value: /a*}\n- {key: path, value: /ab*, rate_limit: {unit: day, requests_per_unit: 5}}\n",
    )
    .unwrap();
    let printed = typed(["check", path], []);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert_eq!(printed.stdout, "ok: 1 file, 1 domain, 2 rules\n");
    for part in [
        "rules.yaml:4:3: name belongs inside rate_limit, not in a descriptor; it has no effect here",
        "looks like a regular expression",
        "no request reaches 'path_/ab*'",
    ] {
        assert!(printed.stderr.contains(part), "{part}: {}", printed.stderr);
    }
    assert!(
        printed
            .stderr
            .lines()
            .all(|line| line.starts_with("warning: ")),
        "{}",
        printed.stderr
    );
    let printed = typed(["check", "--strict", path], []);
    assert_eq!(printed.code, 1, "{}", printed.stdout);
    assert!(
        printed.stderr.contains("rules.yaml:4:3: name belongs"),
        "{}",
        printed.stderr
    );
    // The server takes it, and says so.
    let mut server = Ratekeeper::start_with(["--config", path, "--log-format", "fancy"], []);
    server.wait_until_logged("LOG_FORMAT=fancy is neither text nor json: logging text");
    server.wait_until_logged("configuration has parts without effect");
    server.wait_until_logged("rules.yaml:4:3: name belongs");
    assert_eq!(server.ask(ask("d", &["path=/ab"])).unwrap().overall_code, 1);
}
