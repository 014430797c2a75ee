//! No signed request leaves this machine in the clear, whatever points the SDK there.
//!
//! Decides: which requests are sent. An endpoint can be set by a variable, an argument, a profile of the configuration file and a service's section in it; what is
//! looked at here is where a request goes. Does not: decide which hosts are this machine ([`crate::ports::endpoint`] does).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::ports::endpoint;

/// Where EC2, ECS and EKS answer a machine's or a pod's own questions for credentials: over plain http, on the link itself.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// `inner`, which sends nothing in the clear to other machines.
pub(super) fn refused(inner: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Client(inner))
}

#[derive(Debug)]
struct Client(SharedHttpClient);

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector(self.0.http_connector(settings, components)))
    }
}

#[derive(Debug)]
struct Connector(SharedHttpConnector);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match may_be_sent(request.uri()) {
            Ok(()) => self.0.call(request),
            Err(fault) => HttpConnectorFuture::ready(Err(ConnectorError::user(Box::new(fault)))),
        }
    }
}

fn may_be_sent(url: &str) -> Result<(), endpoint::InsecureEndpoint> {
    // The link's metadata has no users: whatever stands before an @ is a trick.
    let authority = endpoint::authority_of(url);
    let address = endpoint::name_of(authority).parse::<IpAddr>().ok().filter(|_| url.starts_with("http://") && !authority.contains('@'));
    if address.is_some_and(|address| METADATA.contains(&address)) {
        return Ok(());
    }
    endpoint::check("an endpoint of AWS's configuration (a profile's endpoint_url)", url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_the_metadata_of_the_link_are_asked_in_the_clear() {
        for good in [
            "https://ec2.us-east-1.amazonaws.com/",
            "http://127.0.0.1:5000/?Action=x",
            "http://169.254.169.254/latest/api/token",
            "http://[fd00:ec2::254]/latest/api/token",
            "http://169.254.170.23/v1/credentials",
        ] {
            assert_eq!(may_be_sent(good), Ok(()), "{good}");
        }
        for bad in [
            "http://10.0.0.1:8080/",
            "http://169.254.1.1/",
            "http://169.254.169.254.example/",
            "http://169.254.169.254@example.com/",
            "http://169.254.169.254:pw-of-nobody-7c1e@example.com/",
            "http://[fd00:ec2::254]@pw-of-nobody-7c1e.example/",
            "http://ec2.us-east-1.amazonaws.com/",
        ] {
            assert!(may_be_sent(bad).is_err(), "{bad}");
        }
    }
}
