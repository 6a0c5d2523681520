//! Calls that are not built yet. Each line goes when its call is built; then this file goes.

use meshlog_proto::v1;

use super::Catalogue;
use crate::error::{Error, Reason, Result};
use crate::{Broker, Caller};

fn unbuilt<T>() -> Result<T> {
    Err(Error::new(Reason::Internal, "this call is not built yet"))
}

macro_rules! unbuilt {
    (
        changes { $($change:ident($change_request:ident) -> $changed:ident;)* }
        reads { $($read:ident($read_request:ident) -> $answer:ident;)* }
    ) => {
        #[allow(missing_docs, clippy::unused_async)]
        impl Catalogue {
            $(pub async fn $change(&self, _caller: &Caller, _request: v1::$change_request) -> Result<v1::$changed> {
                unbuilt()
            })*
            $(pub fn $read(&self, _request: v1::$read_request) -> Result<v1::$answer> {
                unbuilt()
            })*
        }
    };
}

unbuilt! {
    changes {
    }
    reads {
        search_products(SearchProductsRequest) -> SearchProductsResponse;
    }
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
