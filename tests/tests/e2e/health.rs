use meshlog_tests::TestBroker;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn the_server_and_each_service_are_serving() {
    let broker = TestBroker::start().await;
    let mut health = HealthClient::new(broker.channel());
    for service in [
        "",
        "meshlog.v1.RecordService",
        "meshlog.v1.CatalogService",
        "meshlog.v1.SchemaService",
        "meshlog.v1.AdminService",
        "meshlog.disk",
    ] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest { service: "no.Such".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);
}
