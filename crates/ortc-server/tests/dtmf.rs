//! `ortc call --dtmf`, as processes over real sockets.

use serde_json::Value;

mod support;

use support::Serving;

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

fn digits(summary: &Value) -> String {
    let keys = summary["dtmf_received"].as_array().unwrap();
    keys.iter().map(|key| key["digit"].as_str().unwrap()).collect()
}

#[test]
fn callers_press_keys_with_and_without_a_sound() {
    let server = Serving::start();
    let one = server.call("keys", &["--dtmf", "159D", "--duration", "3", "--json"]);
    // Without a duration it hangs up when its keys are pressed.
    let other = server.call("keys", &["--dtmf", "2,*#", "--json"]);
    let [one, other] = [one, other].map(|caller| {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert_eq!((&one["dtmf_sent"], &other["dtmf_sent"]), (&"159D".into(), &"2*#".into()));
    assert_eq!((digits(&one), digits(&other)), ("2*#".to_owned(), "159D".to_owned()));
    assert_eq!(other["ended"], "played");
    let pause = &one["dtmf_received"];
    let between =
        pause[1]["began_seconds"].as_f64().unwrap() - pause[0]["began_seconds"].as_f64().unwrap();
    // Two seconds, the rest of the key before and its gap, as heard.
    assert!((2.0..3.0).contains(&between), "a comma is {between} s");
}

#[test]
fn keys_go_out_with_the_sound_that_is_played() {
    let server = Serving::start();
    let options = ["--play", SPEECH, "--dtmf", "7", "--duration", "2"];
    let one = server.call("sound", &options);
    let other = server.call("sound", &["--duration", "2"]);
    let said = [one, other].map(|caller| {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(said[0].contains("\nPressed 7\n"), "{}", said[0]);
    assert!(said[1].contains("\nThe other peer pressed 7\n"), "{}", said[1]);
    assert!(said[1].contains("Received opus track"), "{}", said[1]);
}

#[test]
fn keys_are_in_the_sound_where_that_is_wanted() {
    let server = Serving::start();
    let played = ["--play", "tone", "--dtmf", "159D", "--duration", "3", "--json"];
    let one = server.call("line", &[&played[..], &["--dtmf-in-band"]].concat());
    let other =
        server.call("line", &["--dtmf", "2*#", "--dtmf-in-band", "--duration", "3", "--json"]);
    let [one, other] = [one, other].map(|caller| {
        let output = caller.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert_eq!((digits(&one), digits(&other)), ("2*#".to_owned(), "159D".to_owned()));
}
