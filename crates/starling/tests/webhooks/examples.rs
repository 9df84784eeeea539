//! The backends in `clients/webhooks`, which verify with the convention's own libraries.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use starling_testkit::{free_port, programs, wait};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::place::{SOON, Talk, everywhere, message};

/// Starts a backend, with the packages that `cargo xtask test --only install` installs.
fn start(program: &str, file: &str, port: u16, secret: &str) -> Child {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/webhooks");
    // The folder of tools has the program `helm4` in `bin`, and the npm packages beside that.
    let tools = programs::find("helm4").expect("the folder of tools");
    let packages = tools.ancestors().nth(2).expect("its root").join("npm/node_modules");
    let mut backend = Command::new(programs::find(program).expect("a program"));
    backend.env("NODE_PATH", packages).arg(folder.join(file)).args([&port.to_string(), secret]);
    backend.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("a backend")
}

#[test]
fn the_backends_in_python_and_node_verify_questions_and_decide() {
    everywhere(async |place| {
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        ada.ask("join", json!({"conversation": "c"})).await;
        for (program, file) in [("python3", "backend.py"), ("node", "backend.cjs")] {
            let port = free_port().unwrap();
            let url = format!("http://127.0.0.1:{}/", port.number());
            let secret = place.set_with("send", json!({"url": url, "timeout_ms": 5000})).await.expose();
            let _backend = start(program, file, port.number(), &secret);
            wait::until_true(SOON, file, async || Ok(TcpStream::connect(port.address()).await.is_ok()))
                .await
                .unwrap();
            ada.ask("send", message("c", "hello")).await;
            ada.ask("send", message("c", "darn it")).await;
            let error = ada.refusal("send", message("c", "see http://example.com")).await;
            assert_eq!((&*error.code, &*error.message), ("forbidden", "no links, please"), "{file}");
            assert_eq!((ada.hears().await.0, ada.hears().await.0), (json!("hello"), json!("**** it")));

            // A backend that knows another secret takes the question for a stranger's.
            assert_eq!(place.application(0).delete("/v1/hooks/send").await.status, 204);
            place.set_with("send", json!({"url": url, "timeout_ms": 5000})).await;
            assert_eq!(ada.refusal("send", message("c", "hello")).await.code, "unavailable");
            assert_eq!(place.application(0).delete("/v1/hooks/send").await.status, 204);
        }
    });
}
