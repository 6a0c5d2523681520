//! What those who use a product are told with the answers to their reads and appends.

use std::sync::Arc;

use meshlog_proto::v1::{self, NoticeKind};

use super::Catalogue;
use super::product::ProductHandle;

/// Why a product ends, and what comes after it.
#[derive(Debug)]
pub(super) struct Deprecation {
    reason: String,
    /// An id.
    pub(super) successor: Option<Arc<str>>,
    sunset_time: Option<prost_types::Timestamp>,
}

impl Deprecation {
    /// Of a product as it is stored; `None` if it is neither deprecated nor retired.
    pub(super) fn of(product: &v1::Product) -> Option<Self> {
        let ends =
            matches!(product.state(), v1::ProductState::Deprecated | v1::ProductState::Retired);
        ends.then(|| Self {
            reason: product.deprecation_reason.clone(),
            successor: (!product.successor.is_empty()).then(|| Arc::from(&*product.successor)),
            sunset_time: product.sunset_time,
        })
    }
}

impl Catalogue {
    /// What to tell somebody who used the product under the name `asked`. Nothing, and at the
    /// price of comparing the names, for a product under its own name that is not deprecated.
    #[must_use]
    pub fn notices(&self, product: &ProductHandle, asked: &str) -> Vec<v1::Notice> {
        let mut notices = Vec::new();
        if *product.name != *asked {
            notices.push(v1::Notice {
                kind: NoticeKind::Moved.into(),
                message: format!(
                    "`{}` is now `{}`; the old name leads here until its owner gives it up",
                    super::name::shown(asked),
                    product.name
                ),
                product: product.name.to_string(),
                sunset_time: None,
            });
        }
        if let Some(deprecation) = product.deprecation() {
            notices.push(self.deprecation_notice(product, deprecation));
        }
        notices
    }

    #[cold]
    fn deprecation_notice(&self, product: &ProductHandle, why: &Deprecation) -> v1::Notice {
        let successor = why.successor.as_ref().and_then(|id| {
            let view = self.inner.view.read();
            view.product_of(id).map(|successor| successor.name.to_string())
        });
        let successor = successor.unwrap_or_default();
        let state = match product.state() {
            v1::ProductState::Retired => "retired",
            _ => "deprecated",
        };
        let mut message = format!("`{}` is {state}: {}", product.name, why.reason);
        if !successor.is_empty() {
            message += &format!("; use `{successor}` instead");
        }
        if let Some(time) = &why.sunset_time {
            message += &format!("; it may be retired from {time} on");
        }
        v1::Notice {
            kind: NoticeKind::Deprecated.into(),
            message,
            product: successor,
            sunset_time: why.sunset_time,
        }
    }
}
