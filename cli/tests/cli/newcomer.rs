//! Somebody who has never seen Meshlog, from nothing to a product of one's own that others find and
//! read. Each step is what the answer before it says.

use crate::harness::{Outcome, TestBroker, command, records, run};

/// The commands that an answer suggests, between backquotes.
fn suggested(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with("meshlog ")).map(str::to_owned).collect()
}

#[test]
fn a_newcomer_gets_from_nothing_to_a_product_that_others_find_and_read() {
    // Nothing runs yet; the error says what to do.
    let home = tempfile::tempdir().unwrap();
    let mut search = command(home.path());
    search.args(["search", "orders", "--server", "127.0.0.1:1"]);
    run(search, "").fails(6, &["meshlog serve"]);

    let broker = TestBroker::on(home);
    let meshlog = |line: &str| -> Outcome { broker.run(&words(line)) };

    // Nothing there: the hint leads to a first product.
    let nothing = meshlog("search").fails(0, &["no products"]);
    assert_eq!(suggested(&nothing), ["meshlog product create sandbox.NAME"]);
    meshlog("product create sandbox.orders").fails(0, &["owner sandbox"]);
    let produced = broker.run_with(&["produce", "sandbox.orders"], "{\"id\":1,\"total\":9.5}\n");
    produced.fails(0, &["1 record appended to sandbox.orders", "on disk"]);
    assert_eq!(broker.consume(&["sandbox.orders", "-o", "raw"]), "{\"id\":1,\"total\":9.5}\n");

    // One of one's own: every refusal names what is missing, until nothing is.
    meshlog("product create shop.orders").fails(2, &["owner", "description", "classification"]);
    let schema = broker.home.path().join("orders.json");
    let text = r#"{"type":"object","required":["id","customer","total"],"properties":{
        "id":{"type":"integer","description":"Number of the order"},
        "customer":{"type":"string","description":"Who ordered"},
        "total":{"type":"number","description":"Euro, with tax"}}}"#;
    std::fs::write(&schema, text).unwrap();
    let create = format!(
        "product create shop.orders --owner shop --classification internal --schema {} --key customer \
         --description 'Orders of the web shop, as the customer sent them' --new-domain --contact s@x.example",
        schema.display()
    );
    meshlog(&format!("{create} --dry-run")).fails(0, &["dry run"]);
    meshlog(&create).ok();
    let orders = "{\"id\":1,\"customer\":\"ann\",\"total\":9.5}\n{\"id\":2,\"customer\":\"bob\",\"total\":20}\n";
    broker.run_with(&["produce", "shop.orders"], orders).fails(0, &["2 records"]);
    broker
        .run_with(
            &["produce", "shop.orders"],
            "{\"id\":\"three\",\"customer\":\"ann\",\"total\":1}\n",
        )
        .fails(7, &["/id", "\"three\""]);

    // What its page says is missing can be typed as it stands there.
    let page = meshlog("product show shop.orders").ok();
    let missing = suggested(page.split_once("to add").unwrap().1);
    assert!(missing.len() >= 4, "{page}");
    for command in &missing {
        let option = command.split_whitespace().find(|word| word.starts_with("--"));
        let help = meshlog("product update --help").ok();
        assert!(option.is_none_or(|option| help.contains(option)), "{command}");
    }
    meshlog(
        "product update shop.orders --kind source-aligned --support #shop --docs 'One per order'",
    )
    .ok();
    meshlog("product activate shop.orders").ok();

    // Others find it, by a word of a field, by a word with a typo, and narrow it down.
    for query in ["search customer", "search oders web", "search owner:shop state:active"] {
        assert_eq!(meshlog(&format!("{query} -o name")).ok(), "shop.orders\n", "{query}");
    }

    // They look at it before they use it,
    let sample = meshlog("product sample shop.orders --profile -o json").json();
    assert_eq!(sample["records"][1]["value"]["customer"], "bob");
    let total = sample["profile"]["fields"].as_array().unwrap().iter();
    let total = total.clone().find(|field| field["path"] == "total").unwrap();
    assert_eq!((total["min"].as_str(), total["max"].as_str()), (Some("9.5"), Some("20")));
    assert_eq!(records(&meshlog("product sample shop.orders --key ann -o jsonl").ok()).len(), 1);

    // and read it under a name, so that they go on where they were.
    let read = |line: &str| records(&meshlog(line).ok()).len();
    assert_eq!(read("consume shop.orders --as accounting --max 1"), 1);
    assert_eq!(read("consume shop.orders --as accounting"), 1);
    assert_eq!(read("consume shop.orders --as accounting"), 0);
    broker
        .run_with(&["produce", "shop.orders"], "{\"id\":3,\"customer\":\"ann\",\"total\":1}\n")
        .ok();
    assert_eq!(read("consume shop.orders --as accounting"), 1);

    // The owner sees who they are.
    let page = meshlog("product show shop.orders").ok();
    assert!(page.contains("READ BY") && page.contains("meshlog-cli"), "{page}");

    // A broker that starts again knows all of it.
    let broker = broker.restart();
    assert_eq!(broker.run(&["search", "customer", "-o", "name"]).ok(), "shop.orders\n");
    assert_eq!(broker.consume(&["shop.orders", "--as", "accounting"]), "");
}

/// The words of a line as a shell takes them.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (n, piece) in line.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(piece);
        } else {
            words.extend(piece.split_whitespace());
        }
    }
    words
}
