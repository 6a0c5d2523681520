//! `policy test`, on the policies and the cases of docs/guide/policies.md.

use std::path::Path;

use crate::documents::blocks;
use crate::harness::meshlog;

/// Files with the policies and the cases of the page.
fn written(home: &Path) -> (String, String) {
    let all = blocks("docs/guide/policies.md");
    let text = |language: &str| {
        let of = all.iter().filter(|block| block.language == language);
        of.map(|block| block.text.as_str()).collect::<String>()
    };
    let policies = home.join("policies");
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(policies.join("mesh.cedar"), text("cedar")).unwrap();
    let cases = home.join("cases.yaml");
    std::fs::write(&cases, text("yaml")).unwrap();
    (policies.display().to_string(), cases.display().to_string())
}

#[cfg(not(feature = "cedar"))]
#[test]
fn a_build_without_policies_says_so() {
    let home = tempfile::tempdir().unwrap();
    let (policies, _) = written(home.path());
    meshlog(&home, &["policy", "test", &policies]).fails(2, &["--features cedar"]);
}

#[cfg(feature = "cedar")]
#[test]
fn policies_are_tried_against_the_cases_of_the_guide() {
    let home = tempfile::tempdir().unwrap();
    let (policies, cases) = written(home.path());
    meshlog(&home, &["policy", "test", &policies]).ok();
    let test = ["policy", "test", &policies, "--cases", &cases];
    let words = meshlog(&home, &test).ok();
    assert!(words.contains("pii-stays-home"), "{words}");
    let tried = meshlog(&home, &[&test[..], &["-o", "json"]].concat()).json();
    assert_eq!(tried.as_array().unwrap().len(), 3, "{tried}");
    assert_eq!(tried[0]["policies"][0], "pii-stays-home");
    assert_eq!(tried[1]["decided"], "allow");

    // A policy that is gone is noticed, also where another one forbids the same.
    let file = Path::new(&policies).join("mesh.cedar");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("pii-stays-home", "other")).unwrap();
    meshlog(&home, &test).fails(1, &["1 of 3 cases"]);

    std::fs::write(&file, text.replace("field_tags", "fieldtags")).unwrap();
    meshlog(&home, &test).fails(2, &["mesh.cedar", "fieldtags"]);
    std::fs::write(&file, text).unwrap();
    std::fs::write(&cases, "- { principal: { team: a }, action: eat, expected: deny }").unwrap();
    meshlog(&home, &test).fails(2, &["case 1", "eat"]);
    std::fs::write(&cases, "- { who: a }").unwrap();
    meshlog(&home, &test).fails(2, &["cases.yaml", "who"]);
}

#[cfg(feature = "cedar")]
#[test]
fn a_broker_refuses_to_start_with_wrong_policies_and_names_them() {
    let home = tempfile::tempdir().unwrap();
    let policies = home.path().join("wrong.cedar");
    std::fs::write(&policies, "forbid everything;").unwrap();
    let config = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&config).unwrap();
    let settings = format!("[broker.access]\npolicies = \"{}\"\n", policies.display());
    std::fs::write(config.join("config.toml"), settings).unwrap();
    let data = home.path().join("data").display().to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    meshlog(&home, &serve).fails(2, &["wrong.cedar"]);
}
