//! What a route is. One table of them makes the router, and `docs/openapi.json` is written from
//! the same table, so neither can have a route that the other lacks.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, RawPathParams, Request, State};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http::{HeaderMap, Method, Response};

use super::{Http, problem_at, transcode};
use crate::caller::Caller;
use crate::edge::answers::Reader;
use crate::edge::body::refused;
use crate::error::{Error, Reason, Result};

/// What answers later.
pub(super) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One operation.
pub(super) struct Route {
    /// GET, POST, PUT, PATCH or DELETE.
    pub(super) method: Method,
    /// As axum and OpenAPI write it: `/v1/products/{name}`.
    pub(super) path: &'static str,
    /// What answers it.
    pub(super) operation: Operation,
}

/// What answers a route.
pub(super) enum Operation {
    /// A unary RPC, its messages as JSON.
    Message(Rpc),
    /// A form of its own; the name is that of the operation in OpenAPI.
    Own(
        #[cfg_attr(not(test), expect(dead_code, reason = "the document has it"))] &'static str,
        fn(Call) -> Later<Result<Response<Body>>>,
    ),
}

/// Calls an RPC with an encoded request, and answers with the encoded response.
pub(super) type Invoke = fn(Arc<Http>, Caller, Bytes) -> Later<Result<Vec<u8>>>;

/// A unary RPC that a route stands for.
pub(super) struct Rpc {
    /// `CatalogService/GetProduct`.
    #[cfg_attr(not(test), expect(dead_code, reason = "the document is written from it"))]
    pub(super) name: &'static str,
    /// The name of its request message.
    pub(super) request: &'static str,
    /// The name of its response message.
    pub(super) response: &'static str,
    /// The field of the request in which each parameter of the path goes, in their order.
    pub(super) path_fields: &'static [&'static str],
    /// Whether the request is the body. Otherwise its fields are query parameters.
    pub(super) has_body: bool,
    /// Calls it with an encoded request.
    pub(super) call: Invoke,
}

/// One call of a route.
pub(super) struct Call {
    pub(super) http: Arc<Http>,
    pub(super) caller: Caller,
    /// Parameters of the path, in their order, decoded.
    pub(super) path: Vec<String>,
    /// Parameters of the query, in their order, decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    /// Who takes a large answer.
    pub(super) reader: Option<Arc<Reader>>,
    pub(super) body: Body,
}

impl Call {
    /// The whole body, if it is not larger than `limit`.
    pub(super) async fn bytes(body: Body, limit: usize) -> Result<Bytes> {
        axum::body::to_bytes(body, limit).await.map_err(|error| {
            if let Some(refused) = refused(&error) {
                return refused.clone();
            }
            let inner: Option<&dyn std::error::Error> = std::error::Error::source(&error);
            let text = inner.map_or_else(|| error.to_string(), ToString::to_string);
            if text.contains("length limit") {
                return Error::new(
                    Reason::TooLarge,
                    format!(
                        "the body is larger than the {limit} bytes allowed; send several smaller \
                         ones"
                    ),
                )
                .with("limit", limit);
            }
            Error::new(
                Reason::InvalidArgument,
                format!("the body broke off: {text}; send it again"),
            )
        })
    }
}

/// A router of these routes.
pub(super) fn router(routes: Vec<Route>, http: Arc<Http>) -> Router {
    let mut router = Router::new();
    for route in routes {
        let filter = MethodFilter::try_from(route.method).expect("the table has usual methods");
        let operation = Arc::new(route.operation);
        let handler = move |State(http): State<Arc<Http>>,
                            Extension(caller): Extension<Caller>,
                            path: RawPathParams,
                            query: Result<Query<Vec<(String, String)>>, QueryRejection>,
                            request: Request| {
            let operation = Arc::clone(&operation);
            let path = path.iter().map(|(_, value)| value.to_owned()).collect();
            let asked = request.uri().path().to_owned();
            async move {
                let answer = match query {
                    Ok(Query(query)) => {
                        let (parts, body) = request.into_parts();
                        let headers = parts.headers;
                        let reader = parts.extensions.get::<Arc<Reader>>().cloned();
                        let call = Call { http, caller, path, query, headers, reader, body };
                        match &*operation {
                            Operation::Message(rpc) => transcode::answer(rpc, call).await,
                            Operation::Own(_, answer) => answer(call).await,
                        }
                    }
                    Err(error) => Err(Error::new(
                        Reason::InvalidArgument,
                        format!("the query of the address cannot be read: {error}"),
                    )),
                };
                answer.unwrap_or_else(|error| problem_at(&asked, &error))
            }
        };
        router = router.route(route.path, on(filter, handler));
    }
    router.method_not_allowed_fallback(wrong_method).with_state(http)
}

async fn wrong_method(request: Request) -> Response<Body> {
    let path = request.uri().path();
    let what =
        format!("{} cannot be done to {path}; GET /openapi.json lists what can", request.method());
    problem_at(path, &Error::new(Reason::MethodNotAllowed, what))
}
