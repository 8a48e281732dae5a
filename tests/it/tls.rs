//! TLS with clients and with servers, and the PROXY protocol.

mod certificates;
mod clients;
mod proxy_protocol;
mod servers;

use crate::harness::tls::{Authority, Client, Identity};
use crate::harness::{Gateway, Recorder};

/// A gateway that speaks TLS as `agents.example`.
struct House {
    gateway: Gateway,
    authority: Authority,
    identity: Identity,
}

impl House {
    fn with(upstream: &Recorder, yaml: &str) -> Self {
        Self::listening(upstream, "", yaml)
    }

    /// With more keys of the listener.
    fn listening(upstream: &Recorder, more: &str, yaml: &str) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&["agents.example"]);
        let other = authority.issue(&["b.example", "*.c.example"]);
        let listen = format!(
            "listen: {{ address: \"{{listen}}\", tls: {{ cert: own.pem, key: own.key, \
             certificates: [{{ cert: other.pem, key: other.key }}]{more} }} }}\n{yaml}"
        );
        let gateway = Gateway::laid_out(&upstream.url(), &listen, |folder, text| {
            identity.write(folder, "own");
            other.write(folder, "other");
            std::fs::write(folder.join("ca.pem"), authority.pem()).expect("a file");
            std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
        });
        Self { gateway, authority, identity }
    }

    fn client(&self) -> Client {
        Client::trusting(&self.authority, "agents.example", None)
    }

    /// Speaks plainly, and TLS to the gateway.
    fn relay(&self) -> std::net::SocketAddr {
        self.client().offering("http/1.1").relay(self.gateway.address, b"")
    }
}
