//! Sensitive traffic under siege, at length.

use super::figures::{Figure, at_scale};
use crate::classes::Siege;

#[tokio::test]
async fn no_sensitive_request_leaves_the_house_under_siege() {
    let requests = at_scale(50_000, 500);
    let (served, strayed) = Siege::begin().await.run(requests, 2026).await;
    assert!(served > 0);
    Figure {
        key: "10-classes",
        test: "no_sensitive_request_leaves_the_house_under_siege",
        promise: "Engines on premises fail, answer 429 and 503 and slow down, the configuration is changed, a worker outside comes and goes, callers forge headers and ask for the cloud by name: no call of a sensitive key reaches what stands for a cloud",
        measured: strayed as f64,
        unit: format!("calls of {requests} requests ({served} served on premises)"),
        limit: 0.0,
    }
    .hold();
}
