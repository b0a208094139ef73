//! The story fails as soon as one line of its table is not true.

use super::*;

/// Tells `story` in a place of its own; returns the number of the first step that was not as expected, and what was shown of it.
async fn tell(story: &[Step]) -> Option<(usize, String)> {
    let place = tempfile::tempdir().unwrap();
    let mut demo = Demo::new(place.path()).await.unwrap();
    let told = demo.tell(story, |_| Ok(())).await.unwrap();
    demo.db.close().await;
    told.iter().find(|t| !t.good()).map(|t| (t.step, t.text(false)))
}

/// All but the last step, which starts the real command: tests/demo.rs does.
fn in_process() -> Vec<Step> {
    let (last, rest) = STORY.split_last().unwrap();
    assert!(matches!(last.acts, [.., Act::Kill(_)]));
    rest.to_vec()
}

#[tokio::test]
async fn the_story_is_as_it_is_told() {
    assert_eq!(tell(&in_process()).await, None);
}

#[tokio::test]
async fn one_altered_expectation_of_any_step_makes_the_story_fail_there() {
    for at in 0..in_process().len() {
        let alter: [fn(&mut Step); 3] = [
            |s| s.collected = Some("3 trashed"),
            |s| s.unnamed = &["another.jpg"],
            |s| s.rows = if s.rows.is_empty() { &["2026/11/21/lighthouse.jpg"] } else { &s.rows[1..] },
        ];
        for (which, alter) in alter.into_iter().enumerate() {
            let mut story = in_process();
            alter(&mut story[at]);
            let (step, text) = tell(&story[..=at]).await.expect("it was told as if nothing had been altered");
            assert_eq!(step, at + 1, "alteration {which}");
            let marked = ["! collector", "! folder", "! rows"][which];
            assert!(text.contains("NOT AS EXPECTED") && text.contains(marked), "{text}");
        }
    }
}

#[tokio::test]
async fn a_file_with_other_bytes_than_were_uploaded_makes_the_story_fail() {
    let place = tempfile::tempdir().unwrap();
    let mut demo = Demo::new(place.path()).await.unwrap();
    assert!(demo.tell(&STORY[..1], |_| Ok(())).await.unwrap()[0].good());
    fs::write(demo.blog.path("2026/11/21/lighthouse.jpg"), "not this").unwrap();
    let again = [Step { acts: &[], ..STORY[0] }];
    let told = demo.tell(&again, |_| Ok(())).await.unwrap();
    assert!(told[0].text(false).contains("! altered    expected  nothing\n                  found     2026/11/21/lighthouse.jpg"));
}

#[test]
fn the_written_configuration_is_the_plan() {
    let place = Path::new("/place");
    let written = Plan::parse(CONFIG, place, None, &|_| None).unwrap();
    assert_eq!(format!("{written:?}"), format!("{:?}", plan(place).unwrap()));
}
