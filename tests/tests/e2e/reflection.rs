use meshlog_tests::TestBroker;
use prost::Message as _;

macro_rules! lists_and_describes {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let broker = TestBroker::start().await;
            let mut client = ServerReflectionClient::new(broker.channel());
            let ask = |message| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(message),
            };
            let requests = vec![
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol("meshlog.v1.RecordService".to_owned())),
            ];
            let answers = client.server_reflection_info(tokio_stream::iter(requests)).await;
            let mut answers = answers.unwrap().into_inner();
            let list = answers.message().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::ListServicesResponse(list) = list else { panic!("{list:?}") };
            let names: Vec<&str> = list.service.iter().map(|one| one.name.as_str()).collect();
            for name in [
                "meshlog.v1.RecordService",
                "meshlog.v1.CatalogService",
                "meshlog.v1.SchemaService",
                "meshlog.v1.AdminService",
                "grpc.health.v1.Health",
            ] {
                assert!(names.contains(&name), "{name} in {names:?}");
            }
            let file = answers.message().await.unwrap().unwrap().message_response.unwrap();
            let MessageResponse::FileDescriptorResponse(file) = file else { panic!("{file:?}") };
            let file = &file.file_descriptor_proto[0];
            let file = prost_types::FileDescriptorProto::decode(&file[..]).unwrap();
            assert_eq!(file.name(), "meshlog/v1/record.proto");
            let stored = file.message_type.iter().find(|one| one.name() == "StoredBatch").unwrap();
            let batch = stored.field.iter().find(|one| one.name() == "batch").unwrap();
            assert_eq!(batch.type_name(), ".meshlog.v1.RecordBatch", "the public contract");
        }
    };
}

lists_and_describes!(version_1_lists_and_describes_the_services, v1);
lists_and_describes!(version_1_alpha_lists_and_describes_the_services, v1alpha);
