//! What calls of the contract have in common, whichever service they are of.

use crate::{
    Error,
    error::{Code, reason},
};

/// Entries per page of a list.
pub(crate) const PAGE: u32 = 1_000;

/// Calls that take a request of the contract and answer one message of its response.
macro_rules! members {
    ($owner:ident { $($(#[$doc:meta])* $method:ident($request:ident) -> $answer:ident: $message:ident;)* }) => {
        impl $owner {
            $($(#[$doc])*
            ///
            /// # Errors
            /// As the broker says.
            pub async fn $method(
                &self,
                request: ::meshlog_proto::v1::$request,
            ) -> $crate::Result<::meshlog_proto::v1::$message> {
                // A product is large; the futures of those who call are not.
                let response = Box::pin(self.connection.$method(request)).await?;
                response.$answer.ok_or_else(|| $crate::calls::absent(stringify!($answer)))
            })*
        }
    };
}

/// Everything that a call lists, page after page, as the body of a function that answers it.
macro_rules! every_page {
    ($connection:expr, $method:ident($request:ident) -> $answer:ident) => {{
        let mut request = $request;
        request.page_size = $crate::calls::PAGE;
        let mut all = Vec::new();
        loop {
            let page = $connection.$method(request.clone()).await?;
            all.extend(page.$answer);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }};
}

pub(crate) use {every_page, members};

/// An answer that should have this member and has not.
pub(crate) fn absent(what: &str) -> Error {
    let message = format!("the broker's answer lacks its `{what}`");
    Error::new(Code::Internal, reason::PROTOCOL, message)
}
