//! Calls that are not built yet. Each line goes when its call is built; then this file goes.

use meshlog_proto::v1;

use crate::Broker;
use crate::error::{Error, Reason, Result};

fn unbuilt<T>() -> Result<T> {
    Err(Error::new(Reason::Internal, "this call is not built yet"))
}

#[allow(missing_docs, clippy::unused_async)]
impl Broker {
    pub async fn sample_product(
        &self,
        _request: v1::SampleProductRequest,
    ) -> Result<v1::SampleProductResponse> {
        unbuilt()
    }
}
