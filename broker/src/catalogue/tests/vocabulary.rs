//! Tags use the keys of the vocabulary.

use meshlog_proto::v1::TagValueType;

use super::*;

pub(super) fn tag(key: &str, value: Option<&str>, field_path: &str) -> Tag {
    let (key, value) = (key.to_owned(), value.map(str::to_owned));
    Tag { key, value, field_path: field_path.to_owned() }
}

pub(super) fn tag_key(name: &str, value_type: TagValueType, allowed: &[&str]) -> v1::TagKey {
    v1::TagKey {
        name: name.to_owned(),
        owner: "ops-team".to_owned(),
        value_type: value_type.into(),
        allowed_values: allowed.iter().map(|value| (*value).to_owned()).collect(),
        ..Default::default()
    }
}

pub(super) async fn create_key(catalogue: &Catalogue, key: v1::TagKey) -> Result<v1::TagKey> {
    let request = v1::CreateTagKeyRequest { tag_key: Some(key), validate_only: false };
    Ok(catalogue.create_tag_key(&caller(), request).await?.tag_key.unwrap())
}

async fn update_key(catalogue: &Catalogue, paths: &[&str], key: v1::TagKey) -> Result<v1::TagKey> {
    let request = v1::UpdateTagKeyRequest {
        tag_key: Some(key),
        update_mask: Some(mask(paths)),
        validate_only: false,
    };
    Ok(catalogue.update_tag_key(&caller(), request).await?.tag_key.unwrap())
}

async fn delete_key(catalogue: &Catalogue, name: &str) -> Result<()> {
    let request = v1::DeleteTagKeyRequest { name: name.to_owned(), ..Default::default() };
    catalogue.delete_tag_key(&caller(), request).await.map(drop)
}

async fn tagged(catalogue: &Catalogue, name: &str, tags: Vec<Tag>) -> Result<v1::Product> {
    let product = v1::Product { name: name.to_owned(), tags, ..Default::default() };
    Box::pin(update(catalogue, &["tags"], product)).await
}

#[tokio::test]
async fn a_tag_outside_the_vocabulary_is_refused_with_the_key_that_was_meant_and_the_command() {
    let (_, catalogue) = catalogue();
    catalogue.create_team(&caller(), team("ops-team")).await.unwrap();
    create_key(&catalogue, tag_key("source", TagValueType::String, &[])).await.unwrap();
    let request = with("ops.flights", |p| p.tags = vec![tag("sorce", Some("bts"), "")]);
    let error = refused(&catalogue, request).await;
    assert_eq!(field(&error), (Reason::TagKeyNotFound, "tags.key"));
    assert_eq!(error.metadata()["key"], "sorce");
    assert!(error.to_string().contains("did you mean `source`?"), "{error}");
    let command = "`meshlog tag create sorce --owner TEAM --description …`";
    assert!(error.to_string().contains(command), "{error}");

    let request = with("ops.flights", |p| p.tags = vec![tag("colour", None, "")]);
    let error = refused(&catalogue, request).await;
    assert!(!error.to_string().contains("did you mean"), "{error}");
    let request = with("ops.flights", |p| p.tags = vec![tag("pi", None, "carrier")]);
    let error = refused(&catalogue, request).await;
    assert!(error.to_string().contains("did you mean `pii`?"), "{error}");

    // The rule holds in the sandbox, and for domains.
    let mut request = with("sandbox.x", |p| p.tags = vec![tag("colour", None, "")]);
    (request.new_domain, request.new_team) = (None, None);
    assert_eq!(refused(&catalogue, request).await.reason(), Reason::TagKeyNotFound);
    let mut request = domain("ops", "ops-team");
    request.domain.as_mut().unwrap().tags = vec![tag("colour", None, "")];
    let error = catalogue.create_domain(&caller(), request).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TagKeyNotFound);
    let mut request = create("ops.flights");
    request.new_domain.as_mut().unwrap().tags = vec![tag("colour", None, "")];
    assert_eq!(refused(&catalogue, request).await.reason(), Reason::TagKeyNotFound);
}

#[tokio::test]
async fn a_value_that_its_key_does_not_take_is_refused_with_what_it_takes() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    let many: Vec<String> = (0..30).map(|number| format!("v{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for key in [
        tag_key("unit", TagValueType::Enum, &["m", "ft"]),
        tag_key("many", TagValueType::Enum, &many),
        tag_key("note", TagValueType::String, &[]),
        tag_key("scale", TagValueType::Number, &[]),
        tag_key("plain", TagValueType::Unspecified, &[]),
    ] {
        create_key(&catalogue, key).await.unwrap();
    }
    for (key, value, wanted) in [
        ("unit", Some("miles"), "takes one of `m`, `ft`, not `miles`"),
        ("unit", None, "takes one of `m`, `ft`, not no value"),
        ("many", Some("x"), "`v19` and 10 more, not `x`"),
        ("note", None, "takes any text: `note=TEXT`"),
        ("scale", Some("1,5"), "takes a decimal number"),
        ("scale", None, "takes a decimal number"),
        ("plain", Some("x"), "takes no value, not `x`"),
        ("pii", Some("yes"), "takes no value, not `yes`"),
    ] {
        let error = tagged(&catalogue, "ops.flights", vec![tag(key, value, "")]).await.unwrap_err();
        assert_eq!(field(&error), (Reason::TagValueInvalid, "tags.value"), "{key}");
        assert_eq!(error.metadata()["key"], key);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let good = vec![
        tag("unit", Some("ft"), "number"),
        tag("note", Some(""), ""),
        tag("scale", Some("-1.5e3"), ""),
        tag("plain", None, ""),
        tag("pii", None, "carrier"),
    ];
    assert_eq!(tagged(&catalogue, "ops.flights", good.clone()).await.unwrap().tags, good);
}

#[tokio::test]
async fn a_key_keeps_to_what_its_tags_need() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    let key = tag_key("unit", TagValueType::Enum, &["m", "ft", "nm"]);
    let before = create_key(&catalogue, key.clone()).await.unwrap();
    let tags = vec![tag("unit", Some("m"), ""), tag("unit", Some("ft"), "number")];
    tagged(&catalogue, "ops.flights", tags).await.unwrap();
    let mut request =
        v1::UpdateDomainRequest { update_mask: Some(mask(&["tags"])), ..Default::default() };
    request.domain = Some(v1::Domain {
        name: "ops".to_owned(),
        tags: vec![tag("unit", Some("m"), "")],
        ..Default::default()
    });
    catalogue.update_domain(&caller(), request).await.unwrap();

    let narrower = tag_key("unit", TagValueType::Enum, &["m", "nm"]);
    let error = update_key(&catalogue, &["allowed_values"], narrower).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["used_by"].as_str()),
        (Reason::InUse, "ops.flights@number")
    );
    let other = tag_key("unit", TagValueType::None, &[]);
    let error = update_key(&catalogue, &["value_type"], other).await.unwrap_err();
    assert_eq!(error.metadata()["used_by"], "the domain ops, ops.flights, ops.flights@number");
    let error = delete_key(&catalogue, "unit").await.unwrap_err();
    assert_eq!(error.reason(), Reason::InUse);
    assert!(error.to_string().contains("ops.flights@number"), "{error}");

    let wider = tag_key("unit", TagValueType::Enum, &["m", "ft"]);
    let after = update_key(&catalogue, &["allowed_values"], wider).await.unwrap();
    assert_eq!(after.allowed_values, ["m", "ft"]);
    assert_ne!(after.etag, before.etag);
    let text = tag_key("unit", TagValueType::String, &[]);
    let after = update_key(&catalogue, &["value_type"], text).await.unwrap();
    assert!(after.allowed_values.is_empty(), "text has no list");
}

#[tokio::test]
async fn tags_from_before_a_change_of_the_vocabulary_stay_and_only_new_ones_are_checked() {
    let (storage, catalogue) = catalogue();
    let product = created(&catalogue, create("ops.flights")).await;
    // As an earlier version of the broker stored it, before there was a vocabulary.
    let handle = catalogue.resolve("ops.flights", "").unwrap();
    let mut stored = handle.stored().unwrap();
    let old = vec![tag("free", Some("text"), ""), tag("old", None, "carrier")];
    stored.product.as_mut().unwrap().tags = old.clone();
    let key = Key::Product(&product.id).bytes();
    let value = Some(Bytes::from(stored.encode_to_vec()));
    let controls = vec![meshlog_storage::Control::SetState { key, value }];
    storage.append_and_wait(meshlog_storage::Entry { controls, ..Default::default() }).unwrap();
    let catalogue = Catalogue::open(&storage).unwrap();
    assert_eq!(get(&catalogue, "ops.flights").tags, old);

    let docs = v1::Product {
        name: "ops.flights".to_owned(),
        docs: "more".to_owned(),
        ..Default::default()
    };
    assert_eq!(update(&catalogue, &["docs"], docs).await.unwrap().tags, old);
    let mut more = old.clone();
    more.push(tag("pii", None, "carrier"));
    tagged(&catalogue, "ops.flights", more.clone()).await.unwrap();
    more[0].value = Some("other".to_owned());
    let error = tagged(&catalogue, "ops.flights", more).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["key"].as_str()),
        (Reason::TagKeyNotFound, "free")
    );
}

#[tokio::test]
async fn the_key_for_personal_data_is_always_there_and_stays_as_it_is() {
    let (_, catalogue) = catalogue();
    catalogue.create_team(&caller(), team("ops-team")).await.unwrap();
    let pii = catalogue
        .get_tag_key(&Caller::default(), v1::GetTagKeyRequest { name: "pii".to_owned() })
        .unwrap();
    let pii = pii.tag_key.unwrap();
    assert_eq!((pii.value_type(), pii.owner.as_str()), (TagValueType::None, "meshlog"));
    let all = catalogue
        .list_tag_keys(&Caller::default(), v1::ListTagKeysRequest::default())
        .unwrap()
        .tag_keys;
    assert_eq!(all, std::slice::from_ref(&pii));
    let again = create_key(&catalogue, tag_key("pii", TagValueType::None, &[])).await.unwrap_err();
    assert_eq!(again.reason(), Reason::TagKeyExists);
    let error = update_key(&catalogue, &["description"], pii).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NameReserved);
    assert_eq!(delete_key(&catalogue, "pii").await.unwrap_err().reason(), Reason::NameReserved);
}

#[tokio::test]
async fn a_bad_key_is_refused_by_reason_and_field() {
    let (storage, catalogue) = catalogue();
    catalogue.create_team(&caller(), team("ops-team")).await.unwrap();
    let good = tag_key("unit", TagValueType::Enum, &["m"]);
    create_key(&catalogue, good.clone()).await.unwrap();
    let before = storage.state();
    let many: Vec<String> = (0..1001).map(|number| format!("v{number}")).collect();
    let cases: Vec<(v1::TagKey, Reason, &str)> = vec![
        (good.clone(), Reason::TagKeyExists, ""),
        (v1::TagKey { name: "Unit".to_owned(), ..good.clone() }, Reason::NameInvalid, ""),
        (v1::TagKey { name: "u".repeat(64), ..good.clone() }, Reason::NameInvalid, ""),
        (v1::TagKey { name: String::new(), ..good.clone() }, Reason::NameInvalid, ""),
        (
            v1::TagKey { owner: String::new(), ..tag_key("a", TagValueType::None, &[]) },
            Reason::FieldMissing,
            "owner",
        ),
        (
            v1::TagKey { owner: "nobody".to_owned(), ..tag_key("a", TagValueType::None, &[]) },
            Reason::TeamNotFound,
            "",
        ),
        (
            v1::TagKey { owner: "sandbox".to_owned(), ..tag_key("a", TagValueType::None, &[]) },
            Reason::NameReserved,
            "",
        ),
        (
            v1::TagKey { value_type: 9, ..tag_key("a", TagValueType::None, &[]) },
            Reason::InvalidArgument,
            "tag_key.value_type",
        ),
        (tag_key("a", TagValueType::Enum, &[]), Reason::InvalidArgument, "tag_key.allowed_values"),
        (
            tag_key("a", TagValueType::Enum, &["x", "x"]),
            Reason::InvalidArgument,
            "tag_key.allowed_values",
        ),
        (
            tag_key("a", TagValueType::Enum, &[" "]),
            Reason::InvalidArgument,
            "tag_key.allowed_values",
        ),
        (
            tag_key("a", TagValueType::String, &["x"]),
            Reason::InvalidArgument,
            "tag_key.allowed_values",
        ),
        (
            v1::TagKey { allowed_values: many, ..tag_key("a", TagValueType::Enum, &[]) },
            Reason::InvalidArgument,
            "tag_key.allowed_values",
        ),
    ];
    for (key, reason, name) in cases {
        let error = create_key(&catalogue, key).await.unwrap_err();
        assert_eq!(field(&error), (reason, name), "{error}");
    }
    assert_eq!(storage.state(), before);
    assert_eq!(
        delete_key(&catalogue, "nothing").await.unwrap_err().reason(),
        Reason::TagKeyNotFound
    );
}

#[tokio::test]
async fn ten_thousand_tags_are_refused_with_the_limit() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    let tags: Vec<Tag> = (0..10_000).map(|n| tag("pii", None, &format!("f{n}"))).collect();
    let error = tagged(&catalogue, "ops.flights", tags.clone()).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "tags"));
    assert!(error.to_string().contains("at most 200, there are 10000"), "{error}");
    let error = refused(&catalogue, with("ops.others", |p| p.tags = tags.clone())).await;
    assert_eq!(field(&error), (Reason::InvalidArgument, "tags"));
    let mut request = domain("other", "ops-team");
    request.domain.as_mut().unwrap().tags = tags;
    let error = catalogue.create_domain(&caller(), request).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "tags"));
}

#[tokio::test]
async fn a_vocabulary_of_ten_thousand_keys_is_full() {
    let (_, catalogue) = catalogue();
    catalogue.create_team(&caller(), team("ops-team")).await.unwrap();
    let begun = std::time::Instant::now();
    for number in 0..10_000 {
        let key = tag_key(&format!("k{number}"), TagValueType::None, &[]);
        create_key(&catalogue, key).await.unwrap();
    }
    let error =
        create_key(&catalogue, tag_key("one.more", TagValueType::None, &[])).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["limit"].as_str()),
        (Reason::LimitReached, "10000")
    );
    let took = begun.elapsed();
    assert!(took.as_secs() < 20, "{took:?}");
}
