//! Services whose calls the catalogue of the broker answers.

/// Implements a service for a type with a `broker`: `changes` are awaited, `reads` answer at once,
/// `others` are written out. Each call knows its caller.
macro_rules! by_catalogue {
    (
        impl $service:ident for $server:ident
        changes { $($change:ident($change_request:ident) -> $changed:ident;)* }
        reads { $($read:ident($read_request:ident) -> $answer:ident;)* }
        others { $($other:tt)* }
    ) => {
        #[tonic::async_trait]
        impl $service for $server {
            $(async fn $change(
                &self,
                request: Request<v1::$change_request>,
            ) -> Result<Response<v1::$changed>, Status> {
                let caller = caller_of(&request);
                let answer = self.broker.catalogue().$change(&caller, request.into_inner()).await;
                answer.map(Response::new).map_err(|error| status_of(&error))
            })*

            $(async fn $read(
                &self,
                request: Request<v1::$read_request>,
            ) -> Result<Response<v1::$answer>, Status> {
                let caller = caller_of(&request);
                let answer = self.broker.catalogue().$read(&caller, request.into_inner());
                answer.map(Response::new).map_err(|error| status_of(&error))
            })*

            $($other)*
        }
    };
}

pub(super) use by_catalogue;
