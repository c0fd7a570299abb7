//! One TokenReview.

use kube::Client;
use serde::{Deserialize, Serialize};

use super::{Reason, ServiceAccount, cache::Outcome};
use crate::auth::{error::printable, token::Token};
use crate::model::ClusterId;

/// Where they are made.
pub(super) const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    token: &'a str,
    audiences: &'a [String],
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Status,
}

/// The part of the status that counts.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Status {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
    error: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
}

/// Asks the API server of `cluster` who `token` belongs to.
pub(super) async fn ask(
    client: &Client,
    token: &Token,
    audiences: &[String],
    cluster: &ClusterId,
) -> Outcome {
    let unasked = |text: String| Reason::Unasked {
        cluster: cluster.to_string(),
        text: told(&text, token),
    };
    let question = Question {
        api_version: "authentication.k8s.io/v1",
        kind: "TokenReview",
        spec: Spec {
            token: token.reveal(),
            audiences,
        },
    };
    let body = serde_json::to_vec(&question).map_err(|e| unasked(e.to_string()))?;
    let request = http::Request::post(PATH).header("content-type", "application/json");
    let request = request.body(body).map_err(|e| unasked(e.to_string()))?;
    // Not `request`, which logs a body that it cannot decode: this one repeats
    // the token.
    let answer = client.request_text(request).await;
    let answer = answer.map_err(|error| unasked(words(&error)))?;
    let answer: Answer = serde_json::from_str(&answer)
        .map_err(|_| unasked("the answer is not a TokenReview".to_owned()))?;
    answer
        .status
        .judge(audiences)
        .map_err(|text| Reason::Refused {
            cluster: cluster.to_string(),
            text: told(&text, token),
        })
}

impl Status {
    /// istiod: `getTokenReviewResult`; and what Kubernetes asks of those who
    /// ask for audiences, to look whether the answer names one of them.
    fn judge(self, audiences: &[String]) -> Result<ServiceAccount, String> {
        if !self.error.is_empty() {
            return Err(self.error);
        }
        if !self.authenticated {
            return Err("the token is not authenticated".to_owned());
        }
        if !self.audiences.iter().any(|found| audiences.contains(found)) {
            let accepted = audiences.join(", ");
            return Err(format!(
                "the token is for another audience; accepted: {accepted}"
            ));
        }
        let is_account = |group: &String| group == "system:serviceaccounts";
        let account = ServiceAccount::parse(&self.user.username);
        match account.filter(|_| self.user.groups.iter().any(is_account)) {
            Some(account) => Ok(account),
            None => Err(format!("{:?} is not a service account", self.user.username)),
        }
    }
}

/// What went wrong between here and the API server.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            let (code, reason, message) = (status.code, &status.reason, &status.message);
            let hint = match code {
                401 | 403 => "; bind the ClusterRole system:auth-delegator",
                _ => "",
            };
            format!("{code} {reason}: {message}{hint}")
        }
        kube::Error::SerdeError(_) => "the answer does not parse".to_owned(),
        other => {
            let other: &dyn std::error::Error = other;
            let causes = std::iter::successors(Some(other), |error| error.source());
            let texts: Vec<_> = causes.map(ToString::to_string).collect();
            texts.join(": ")
        }
    }
}

/// Words of an API server that are safe to tell.
fn told(text: &str, token: &Token) -> String {
    printable(&text.replace(token.reveal(), "(the token)"), 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(json: &str) -> Result<ServiceAccount, String> {
        let answer: Answer = serde_json::from_str(json).unwrap();
        answer.status.judge(&["istio-ca".to_owned()])
    }

    fn answer(status: &str) -> String {
        format!(
            r#"{{"kind": "TokenReview", "status": {{
                "authenticated": true, "audiences": ["istio-ca"],
                "user": {{"username": "system:serviceaccount:shop:web",
                          "groups": ["system:serviceaccounts", "system:authenticated"],
                          "extra": {{}}}}{status}}}}}"#
        )
    }

    #[test]
    fn an_authenticated_service_account_is_accepted() {
        let account = judge(&answer("")).unwrap();
        let id = account.identity("td").to_string();
        assert_eq!(id, "spiffe://td/ns/shop/sa/web");
    }

    #[test]
    fn every_rule_of_istiods_must_hold() {
        let good = answer("");
        for (part, bad) in [
            ("\"authenticated\": true", "\"authenticated\": false"),
            ("\"system:serviceaccounts\"", "\"system:serviceaccount\""),
            ("system:serviceaccount:shop:web", "admin"),
            (
                "system:serviceaccount:shop:web",
                "system:serviceaccount:shop",
            ),
            ("[\"istio-ca\"]", "[\"api\"]"),
            ("[\"istio-ca\"]", "[]"),
            ("\"extra\": {}}", "\"extra\": {}}, \"error\": \"no\""),
        ] {
            assert!(good.contains(part), "{part}");
            assert!(judge(&good.replace(part, bad)).is_err(), "{bad}");
        }
        assert!(judge("{}").is_err());
    }
}
