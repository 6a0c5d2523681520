//! Creating, changing and ending what is in the catalogue.

use serde_json::{Value, json};

use crate::harness::{TestBroker, flights};

/// Two teams, two domains, a vocabulary and `fleet.planes`.
fn mesh() -> TestBroker {
    let broker = TestBroker::in_memory();
    broker.tag_keys(&["aviation", "source=string"]);
    broker.planes();
    broker.run(&["team", "create", "night-shift", "--contact", "n@nyc.example"]).ok();
    broker.run(&["domain", "create", "night", "--owner", "night-shift"]).ok();
    broker
}

#[track_caller]
fn show(broker: &TestBroker, noun: &str, name: &str) -> Value {
    broker.run(&[noun, "show", name, "-o", "json"]).json()
}

/// Runs a change with `--dry-run` and then in earnest: the same lines, and only the second changes.
#[track_caller]
fn change(broker: &TestBroker, noun: &str, name: &str, args: &[&str], lines: &[&str]) {
    let before = show(broker, noun, name);
    let tried = broker.run(&[args, &["--dry-run"]].concat());
    assert!(tried.stderr.contains("dry run: nothing was changed"), "{tried:?}");
    let tried = tried.ok();
    assert_eq!(tried.lines().collect::<Vec<_>>(), lines, "{args:?}");
    assert_eq!(show(broker, noun, name), before, "{args:?}: a dry run changed something");
    let done = broker.run(args);
    assert!(!done.stderr.contains("dry run"), "{done:?}");
    assert_eq!(done.ok(), tried, "{args:?}");
    assert_ne!(show(broker, noun, name)["etag"], before["etag"], "{args:?}");
}

#[test]
fn a_team_changes_its_words_and_its_contacts_and_keeps_one() {
    let broker = mesh();
    let update = ["team", "update", "night-shift"];
    change(
        &broker,
        "team",
        "night-shift",
        &[&update[..], &["--description", "From ten to six", "--add-contact", "#night"]].concat(),
        &["+ description: \"From ten to six\"", "+ contacts: #night"],
    );
    change(
        &broker,
        "team",
        "night-shift",
        &[&update[..], &["--remove-contact", "n@nyc.example"]].concat(),
        &["- contacts: n@nyc.example"],
    );
    let remove = |contact| broker.run(&[&update[..], &["--remove-contact", contact]].concat());
    remove("nobody").fails(3, &["contact `nobody`", "#night"]);
    remove("#night").fails(2, &["contact"]);
    broker.run(&["team", "delete", "night-shift", "--yes"]).fails(4, &["night"]);
    broker.run(&["team", "delete", "nobody", "--yes"]).fails(3, &["nobody"]);
    broker.run(&["domain", "delete", "night"]).fails(2, &["domain night", "--yes"]);
    broker.run(&["domain", "delete", "night", "--dry-run"]).fails(0, &["dry run"]);
    broker.run(&["domain", "delete", "night", "--yes"]).ok();
    broker.run(&["team", "delete", "night-shift", "--yes"]).fails(0, &["deleted night-shift"]);
    broker.run(&["team", "show", "night-shift"]).fails(3, &[]);
}

#[test]
fn a_domain_changes_its_owner_and_hands_its_tags_down() {
    let broker = mesh();
    let update = ["domain", "update", "fleet"];
    change(
        &broker,
        "domain",
        "fleet",
        &[&update[..], &["--owner", "night-shift", "--tag", "aviation", "--tag", "source=a"]]
            .concat(),
        &["~ owner: fleet-engineering → night-shift", "+ tags: aviation", "+ tags: source=a"],
    );
    change(
        &broker,
        "domain",
        "fleet",
        &[&update[..], &["--untag", "aviation", "--tag", "source=b"]].concat(),
        &["- tags: aviation", "- tags: source=a", "+ tags: source=b"],
    );
    let product = show(&broker, "product", "fleet.planes");
    assert_eq!(
        product["effective_tags"][0],
        json!({"tag": "source=b", "field_path": "", "from": "domain"})
    );
    let table = broker.run(&["product", "show", "fleet.planes"]).ok();
    assert!(table.contains("source=b (of the domain)"), "{table}");
    broker.run(&[&update[..], &["--untag", "aviation"]].concat()).fails(3, &["source=b"]);
    broker.run(&["domain", "delete", "fleet", "--yes"]).fails(4, &["fleet.planes"]);
}

#[test]
fn the_vocabulary_says_what_tags_may_say() {
    let broker = mesh();
    let create = ["tag", "create", "region", "--allowed", "nyc,chicago"];
    let create = [&create[..], &["--owner", "reference-data", "--description", "Where"]].concat();
    let tried = broker.run(&[&create[..], &["--dry-run"]].concat());
    assert!(tried.stderr.contains("dry run"), "{tried:?}");
    assert!(tried.ok().contains("+ allowed values: nyc\n"));
    broker.run(&["tag", "show", "region"]).fails(3, &["region"]);
    broker.run(&create).ok();
    broker.run(&create).fails(4, &["region"]);
    assert_eq!(show(&broker, "tag", "region")["value_type"], "enum");
    let tag = |tag| broker.run(&["product", "update", "fleet.planes", "--tag", tag]);
    tag("region=boston").fails(2, &["nyc", "chicago"]);
    tag("regoin=nyc").fails(3, &["region", "meshlog tag create regoin"]);
    tag("region=nyc").ok();
    change(
        &broker,
        "tag",
        "region",
        &["tag", "update", "region", "--add-allowed", "boston", "--remove-allowed", "chicago"],
        &["- allowed values: chicago", "+ allowed values: boston"],
    );
    broker.run(&["tag", "update", "region", "--remove-allowed", "nyc"]).fails(4, &["fleet.planes"]);
    broker.run(&["tag", "delete", "region", "--yes"]).fails(4, &["fleet.planes"]);
    broker.run(&["product", "update", "fleet.planes", "--untag", "region"]).ok();
    change(
        &broker,
        "tag",
        "region",
        &["tag", "update", "region", "--type", "string"],
        &["~ value type: enum → string", "- allowed values: nyc", "- allowed values: boston"],
    );
    broker.run(&["tag", "delete", "region", "--yes"]).ok();
    broker.run(&["tag", "show", "region"]).fails(3, &[]);
}

#[test]
fn everything_an_owner_says_about_a_product_can_be_changed_and_taken_back() {
    let broker = mesh();
    broker.sandbox("sandbox.register");
    let docs = broker.home.path().join("planes.md");
    std::fs::write(&docs, "# Planes\n").unwrap();
    let docs = docs.display().to_string();
    let update = ["product", "update", "fleet.planes"];
    let more = [
        &["--description", "Planes", "--classification", "public", "--kind", "aggregate"][..],
        &["--docs", &docs, "--link", "Wiki=https://w.example/a=b", "--support", "#fleet"],
        &["--input", "sandbox.register", "--tag", "aviation", "--field-tag", "tailnum:source=x"],
        &["--enforcement", "off", "--minimum-durability", "synced"],
    ];
    change(
        &broker,
        "product",
        "fleet.planes",
        &[&update[..], &more.concat()].concat(),
        &[
            "~ description: \"Aircraft of the register\" → Planes",
            "~ classification: internal → public",
            "+ kind: aggregate",
            "+ tags: aviation",
            "+ field tags: tailnum:source=x",
            "~ enforcement: enforce → off",
            "~ minimum durability: written → synced",
            "+ docs: \"# Planes\\n\"",
            "+ links: title: Wiki, url: https://w.example/a=b",
            "+ support: #fleet",
            "+ inputs: sandbox.register",
            "~ completeness score: 25 → 85",
        ],
    );
    let product = show(&broker, "product", "fleet.planes");
    assert_eq!(product["docs"], "# Planes\n");
    assert_eq!(product["inputs"], json!(["sandbox.register"]));
    let more = [
        &["--docs", "", "--remove-link", "Wiki", "--remove-input", "sandbox.register"][..],
        &["--untag", "aviation", "--field-untag", "tailnum:source", "--support", ""],
        &["--enforcement", "default", "--minimum-durability", "default"],
    ];
    broker.run(&[&update[..], &more.concat()].concat()).ok();
    let product = show(&broker, "product", "fleet.planes");
    for gone in ["docs", "support"] {
        assert_eq!(product[gone], "", "{gone}");
    }
    for gone in ["links", "inputs", "tags", "field_tags"] {
        assert_eq!(product[gone], json!([]), "{gone}");
    }
    assert_eq!(product["enforcement"], "enforce");

    broker.run(&update).fails(2, &["nothing to change"]);
    let fails = |args: &[&str], code, words: &[&str]| {
        broker.run(&[&update[..], args].concat()).fails(code, words);
    };
    fails(&["--docs", "missing.md"], 2, &["missing.md"]);
    fails(&["--remove-link", "Wiki"], 3, &["Wiki"]);
    fails(&["--input", "ops.nothing"], 3, &["ops.nothing"]);
    fails(&["--link", "Wiki=ftp://x"], 2, &["http"]);
}

#[test]
fn an_update_never_overwrites_what_somebody_else_changed() {
    let broker = mesh();
    let etag = show(&broker, "product", "fleet.planes")["etag"].as_str().unwrap().to_owned();
    broker.run(&["product", "update", "fleet.planes", "--support", "#a"]).ok();
    for args in [
        &["product", "update", "fleet.planes", "--support", "#b"][..],
        &["product", "activate", "fleet.planes"],
        &["product", "deprecate", "fleet.planes", "--reason", "x"],
        &["product", "move", "fleet.planes", "fleet.aircraft"],
        &["product", "transfer", "fleet.planes", "night-shift"],
        &["product", "succeed", "fleet.planes", "--reason", "x"],
        &["product", "delete", "fleet.planes", "--yes"],
    ] {
        broker.run(&[args, &["--etag", &etag]].concat()).fails(4, &["fleet.planes"]);
    }
    assert_eq!(show(&broker, "product", "fleet.planes")["support"], "#a");
    for args in [
        &["team", "update", "night-shift", "--description", "x"][..],
        &["team", "delete", "night-shift", "--yes"],
        &["domain", "update", "night", "--description", "x"],
        &["domain", "delete", "night", "--yes"],
        &["tag", "update", "aviation", "--description", "x"],
        &["tag", "delete", "aviation", "--yes"],
    ] {
        broker.run(&[args, &["--etag", "stale"]].concat()).fails(4, &[args[2]]);
    }
}

#[test]
fn a_product_goes_through_its_life() {
    let broker = mesh();
    broker.sandbox("sandbox.notes");
    let name = "fleet.planes";
    broker.run(&["product", "activate", "sandbox.notes"]).fails(4, &["move"]);
    broker.run(&["product", "retire", name, "--yes"]).fails(4, &["deprecate"]);
    change(&broker, "product", name, &["product", "activate", name], &["~ state: draft → active"]);
    let schema = broker.home.path().join("two.json");
    let narrow = r#"{"type": "object", "required": ["tailnum"],
        "properties": {"tailnum": {"type": "string", "maxLength": 3}}}"#;
    std::fs::write(&schema, narrow).unwrap();
    let schema = schema.display().to_string();
    let succeed = "`meshlog product succeed fleet.planes --schema FILE --reason TEXT`";
    broker.run(&["schema", "add", name, &schema]).fails(7, &[succeed, "JSON_SIZE_NARROWED"]);
    let check = ["schema", "check", name, "--schema", &schema, "--against", "retained"];
    broker.run(&check).fails(7, &["cannot be the next version of fleet.planes"]);
    let wider = broker.home.path().join("wider.json");
    let text = r#"{"type": "object", "required": ["tailnum"],
        "properties": {"tailnum": {"type": "string"}}}"#;
    std::fs::write(&wider, text).unwrap();
    let wider = wider.display().to_string();
    let check = ["schema", "check", name, "--schema", &wider, "--against", "all", "-o", "json"];
    let outcome = broker.run(&check);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("\"compatible\": true"), "{outcome:?}");
    change(
        &broker,
        "product",
        name,
        &["product", "deprecate", name, "--reason", "Too old", "--sunset", "2030-01-31"],
        &[
            "~ state: active → deprecated",
            "+ deprecation reason: \"Too old\"",
            "+ sunset time: 2030-01-31T00:00:00Z",
        ],
    );
    let shown = broker.run(&["product", "show", name]);
    let notice = "fleet.planes is deprecated: Too old; it may be retired on 2030-01-31";
    shown.fails(0, &[notice]);
    broker.run(&["product", "retire", name]).fails(2, &["--yes"]);
    broker.run(&["product", "retire", name, "--yes"]).fails(4, &["2030", "force"]);
    broker.run(&["product", "retire", name, "--yes", "--force"]).ok();
    assert_eq!(show(&broker, "product", name)["state"], "retired");
    broker.run_with(&["produce", name, "--format", "raw"], "{}\n").fails(4, &["retired"]);
}

#[test]
fn a_product_moves_and_its_old_name_leads_to_it() {
    let broker = mesh();
    change_name(&broker);
    let moved = show(&broker, "product", "fleet.planes");
    assert_eq!(
        (&moved["name"], &moved["aliases"]),
        (&json!("night.planes"), &json!(["fleet.planes"]))
    );
    let shown = broker.run(&["product", "show", "fleet.planes"]);
    shown.fails(0, &["fleet.planes is called night.planes now"]);
    broker.run(&["product", "move", "fleet.planes", "nowhere.planes"]).fails(3, &["nowhere"]);
    broker.run(&["product", "update", "night.planes", "--remove-alias", "fleet.planes"]).ok();
    broker.run(&["product", "show", "fleet.planes"]).fails(3, &[]);
}

#[track_caller]
fn change_name(broker: &TestBroker) {
    change(
        broker,
        "product",
        "fleet.planes",
        &["product", "move", "fleet.planes", "night.planes"],
        &["~ name: fleet.planes → night.planes", "+ aliases: fleet.planes"],
    );
}

#[test]
fn a_product_changes_hands_when_the_new_team_takes_it() {
    let broker = mesh();
    let name = "fleet.planes";
    broker.run(&["product", "transfer", name, "nobody"]).fails(3, &["nobody"]);
    broker.run(&["product", "accept", name, "night-shift"]).fails(4, &["product transfer"]);
    let offer = ["product", "transfer", name, "night-shift", "--reason", "They run it"];
    let offered = broker.run(&offer);
    assert!(
        offered.stderr.contains("meshlog product accept fleet.planes night-shift"),
        "{offered:?}"
    );
    offered.ok();
    let waiting = show(&broker, "product", name);
    assert_eq!(waiting["owner"], "fleet-engineering");
    assert_eq!(waiting["pending_transfer"]["new_owner"], "night-shift");
    broker.run(&["product", "show", name]).fails(0, &["offered to night-shift"]);
    broker.run(&["product", "cancel-transfer", name]).ok();
    assert_eq!(show(&broker, "product", name)["pending_transfer"], json!(null));
    broker.run(&offer).ok();
    broker.run(&["product", "accept", name, "fleet-engineering"]).fails(4, &[]);
    broker.run(&["product", "accept", name, "night-shift"]).ok();
    let taken = show(&broker, "product", name);
    assert_eq!(
        (&taken["owner"], &taken["pending_transfer"]),
        (&json!("night-shift"), &json!(null))
    );
}

#[test]
fn a_breaking_change_is_a_successor_that_the_old_product_points_to() {
    let broker = mesh();
    let schema = broker.home.path().join("two.json");
    std::fs::write(
        &schema,
        "{\"type\":\"object\",\"required\":[\"tailnum\"],\"properties\":{\"tailnum\":{\"type\":\"string\"}}}",
    )
    .unwrap();
    let schema = schema.display().to_string();
    let succeed =
        ["product", "succeed", "fleet.planes", "--reason", "Smaller", "--schema", &schema];
    let tried = broker.run(&[&succeed[..], &["--dry-run"]].concat());
    assert!(tried.stderr.contains("dry run"), "{tried:?}");
    let tried = tried.ok();
    for line in ["~ state: draft → deprecated", "+ name: fleet.planes-v2", "+ key: tailnum"] {
        assert!(tried.contains(line), "{tried}");
    }
    broker.run(&["product", "show", "fleet.planes-v2"]).fails(3, &[]);
    let both = broker.run(&[&succeed[..], &["-o", "json"]].concat()).json();
    assert_eq!(both["product"]["successor"], "fleet.planes-v2");
    assert_eq!(both["successor"]["state"], "draft");
    let fields = show(&broker, "product", "fleet.planes-v2")["fields"].clone();
    assert_eq!(fields.as_array().unwrap().len(), 1);
}

#[test]
fn schema_versions_are_compared_by_field_and_by_text() {
    let broker = mesh();
    broker.run(&["schema", "diff", "fleet.planes"]).fails(3, &["schema add fleet.planes FILE"]);
    let text = std::fs::read_to_string(flights("schemas/planes.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    schema["properties"]["speed"]["type"] = json!("number");
    schema["properties"]["range"] = json!({"type": "integer", "description": "Miles"});
    schema["properties"].as_object_mut().unwrap().remove("seats");
    schema["required"].as_array_mut().unwrap().retain(|name| name != "seats");
    let file = broker.home.path().join("two.json");
    std::fs::write(&file, serde_json::to_string_pretty(&schema).unwrap()).unwrap();
    let file = file.display().to_string();

    let tried = broker.run(&["schema", "add", "fleet.planes", &file, "--dry-run"]);
    assert!(tried.stderr.contains("dry run"), "{tried:?}");
    assert!(tried.ok().contains("range"));
    assert_eq!(broker.run(&["schema", "list", "fleet.planes", "-o", "name"]).ok(), "1\n");
    broker.run(&["schema", "add", "fleet.planes", &file]).ok();

    let found = broker.run(&["schema", "diff", "fleet.planes", "-o", "json"]).json();
    assert_eq!((&found["from"], &found["to"]), (&json!(1), &json!(2)));
    let fields: Vec<_> = found["fields"].as_array().unwrap().iter().collect();
    let paths: Vec<_> = fields.iter().map(|field| (&field["path"], &field["change"])).collect();
    let row = |path: &str, change: &str| (json!(path), json!(change));
    let wanted = [row("range", "added"), row("seats", "removed"), row("speed", "changed")];
    assert!(paths.into_iter().eq(wanted.iter().map(|(path, change)| (path, change))), "{fields:?}");
    let text = found["text"].as_str().unwrap();
    assert!(text.starts_with("--- version 1\n+++ version 2\n@@"), "{text}");
    let table = broker.run(&["schema", "diff", "fleet.planes", "--from", "2", "--to", "1"]).ok();
    assert!(
        table.contains("range  removed  integer")
            && table.contains("\n-      \"type\": \"number\""),
        "{table}"
    );
    let equal = broker.run(&["schema", "diff", "fleet.planes", "--from", "2", "--to", "2"]);
    equal.fails(0, &["versions 2 and 2 are equal"]);
    broker.run(&["schema", "diff", "fleet.planes", "--from", "9"]).fails(3, &["9"]);
}

#[test]
fn creating_can_be_tried_first() {
    let broker = mesh();
    for args in [
        &["product", "create", "sandbox.tried"][..],
        &["team", "create", "tried", "--contact", "x"],
        &["domain", "create", "tried", "--owner", "night-shift"],
    ] {
        let outcome = broker.run(&[args, &["--dry-run"]].concat());
        assert!(outcome.stderr.contains("dry run: nothing was changed"), "{outcome:?}");
        assert!(outcome.ok().contains(&format!("+ name: {}\n", args[2])));
        broker.run(&[args[0], "show", args[2]]).fails(3, &[args[2]]);
        let json = broker.run(&[args, &["--dry-run", "-o", "json"]].concat()).json();
        assert_eq!(json["name"], args[2]);
    }
    broker.run(&["product", "create", "fleet.planes", "--dry-run"]).fails(2, &[]);
    broker.run(&["team", "create", "night-shift", "--contact", "x", "--dry-run"]).fails(4, &[]);
    let delete = broker.run(&["product", "delete", "fleet.planes", "--dry-run"]);
    assert_eq!(delete.ok(), "- product: fleet.planes with 0 records\n");
    broker.run(&["product", "show", "fleet.planes"]).ok();
}

#[test]
fn a_change_is_seen_by_whoever_watches() {
    let broker = mesh();
    let watch = ["product", "watch", "--domain", "fleet", "-o", "jsonl"];
    let mut watching = crate::harness::Process::start(broker.command(&watch));
    let mut told = || serde_json::from_str::<Value>(&watching.line()).unwrap();
    let first = told();
    assert_eq!((&first["change"], &first["name"]), (&json!("there"), &json!("fleet.planes")));
    broker.run(&["product", "update", "fleet.planes", "--support", "#x"]).ok();
    let second = told();
    assert_eq!(
        (&second["change"], &second["product"]["support"]),
        (&json!("changed"), &json!("#x"))
    );
    broker.run(&["product", "delete", "fleet.planes", "--yes"]).ok();
    let third = told();
    assert_eq!((&third["change"], &third["product"]), (&json!("gone"), &json!(null)));
    watching.signal(rustix::process::Signal::INT);
    assert_eq!(watching.wait().code, 130);
}

#[test]
fn a_watch_outlives_a_restart_of_the_broker() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.a");
    let watch = ["product", "watch", "--domain", "sandbox", "-o", "name"];
    let mut watching = crate::harness::Process::start(broker.command(&watch));
    assert_eq!(watching.line(), "sandbox.a");
    let broker = broker.restart_on_the_same_port();
    broker.sandbox("sandbox.b");
    let mut names = vec![watching.line()];
    while names.last().unwrap() != "sandbox.b" {
        names.push(watching.line());
    }
    assert!(names.len() <= 3, "{names:?}");
    watching.signal(rustix::process::Signal::INT);
    watching.wait();
}

#[test]
fn what_is_searched_is_found_with_the_reason() {
    let broker = mesh();
    let found = broker.run(&["search", "aircraft", "register"]).ok();
    assert!(found.starts_with("NAME          OWNER"), "{found}");
    assert!(found.contains("fleet.planes  fleet-engineering  draft"), "{found}");
    assert_eq!(broker.run(&["search", "field:tailnum", "-o", "name"]).ok(), "fleet.planes\n");
    let json = broker.run(&["search", "tailnum", "-o", "json"]).json();
    assert_eq!((&json["total"], &json["hits"][0]["name"]), (&json!(1), &json!("fleet.planes")));
    assert_eq!(json["hits"][0]["matches"][0]["place"], "field");
    assert!(json["facets"].as_array().unwrap().iter().any(|facet| facet["name"] == "domain"));
    broker.run(&["search", "aircarft"]).fails(0, &["`aircarft` was taken for `aircraft`"]);
    let nothing = broker.run(&["search", "qwertyuiop"]);
    assert!(nothing.stderr.contains("nothing is found for `qwertyuiop`"), "{nothing:?}");
    assert_eq!(nothing.ok(), "");
    broker.run(&["search", "colour:red"]).fails(2, &["colour", "domain"]);
    assert_eq!(broker.run(&["search", "aircraft -domain:fleet", "-o", "name"]).ok(), "");
    assert_eq!(broker.run(&["search", "-o", "name", "--", "-domain:fleet"]).ok(), "");
}
