//! A client that knows only the wire: it calls any method with bytes.

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Calls methods by their descriptor.
pub(crate) struct Raw {
    channel: Channel,
}

impl Raw {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Opens a call with one request in JSON, whose side stays open if the method takes a stream.
    pub(crate) async fn open(
        &self,
        method: &MethodDescriptor,
        request: &str,
        secret: Option<&str>,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut json = serde_json::Deserializer::from_str(request);
        let message = DynamicMessage::deserialize(method.input(), &mut json).unwrap();
        let first = tokio_stream::once(Bytes::from(message.encode_to_vec()));
        let stays = method.is_client_streaming();
        let messages = futures_util::stream::StreamExt::chain(
            first,
            futures_util::stream::poll_fn(move |_| {
                if stays { std::task::Poll::Pending } else { std::task::Poll::Ready(None) }
            }),
        );
        let mut request = Request::new(messages);
        if let Some(secret) = secret {
            let value = format!("Bearer {secret}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        Ok(client.streaming(request, path.parse().unwrap(), AsItIs).await?.into_inner())
    }

    /// The first answer, if there is one before the end.
    pub(crate) async fn call(
        &self,
        method: &MethodDescriptor,
        request: &str,
        secret: Option<&str>,
    ) -> Result<Option<Bytes>, Status> {
        self.open(method, request, secret).await?.message().await
    }
}

/// Messages as bytes.
#[derive(Clone, Copy)]
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
