use super::*;

fn counts(exchanges: u64, failures: u64) -> Counts {
    Counts { exchanges, failures, errors: failures, ..Counts::default() }
}

fn window(running: Counts, next: Counts) -> Window {
    Window { running, next, ..Window::default() }
}

fn shadow(copies: u64, differences: Differences) -> Window {
    let shadow = Some(Differences { compared: copies, ..differences });
    Window { shadow, ..window(counts(copies, 0), counts(copies, 0)) }
}

/// What a judge says that looks at this first.
fn first(window: &Window) -> Verdict {
    Judge::new(Thresholds::default()).look(window)
}

/// What a judge says that sees counts grow to this in a hundred looks.
fn at_last(thresholds: Thresholds, last: &Window) -> Verdict {
    let mut judge = Judge::new(thresholds);
    let part = |count: u64, look: u64| count * look / 100;
    let side = |side: &Counts, look| Counts {
        exchanges: part(side.exchanges, look),
        failures: part(side.failures, look),
        errors: part(side.errors, look),
        local_replies: part(side.local_replies, look),
        added_time: Distribution {
            buckets: side.added_time.buckets.map(|bucket| part(bucket, look)),
            ..Distribution::default()
        },
        memory_bytes: side.memory_bytes,
    };
    let mut verdict = None;
    for look in 1..=100 {
        verdict = Some(judge.look(&Window {
            running: side(&last.running, look),
            next: side(&last.next, look),
            ..last.clone()
        }));
    }
    verdict.expect("it looked a hundred times")
}

fn worse(verdict: &Verdict) -> &str {
    let Verdict::Worse(words) = verdict else { panic!("{verdict:?}") };
    words
}

fn sound(verdict: &Verdict) -> &str {
    let Verdict::Sound(words) = verdict else { panic!("{verdict:?}") };
    words
}

#[test]
fn samples_are_needed_of_both_sides() {
    let needed = Thresholds::default().samples_min;
    for (running, next, enough) in [
        (needed, needed - 1, false),
        (needed - 1, needed, false),
        (needed, needed, true),
        (needed + 1, needed + 1, true),
    ] {
        let verdict = first(&window(counts(running, 0), counts(next, 0)));
        assert_eq!(matches!(verdict, Verdict::Sound(_)), enough, "{running} {next} {verdict:?}");
    }
    assert_eq!(
        first(&window(counts(1_950, 0), counts(37, 0))),
        Verdict::TooFew(
            "too few: 37 requests on the candidate and 1,950 on the running version, 100 of each \
             are needed"
                .to_owned()
        )
    );
}

/// Failures of a candidate that fails every request until it is rolled back.
fn failures_until_rollback(running_for_each: u64) -> u64 {
    let mut judge = Judge::new(Thresholds::default());
    let failed = (1..1_000).find(|failed| {
        let seen = window(counts(running_for_each * failed, 0), counts(*failed, *failed));
        matches!(judge.look(&seen), Verdict::Worse(_))
    });
    failed.expect("it is rolled back")
}

#[test]
fn a_candidate_that_fails_every_request_goes_at_once() {
    // Canaries of 5 %, 20 % and 50 %; the last number is that of one that gets everything.
    let needed = [19, 4, 1, 0].map(failures_until_rollback);
    assert_eq!(needed, [4, 8, 16, 13]);
}

#[test]
fn a_verdict_tells_the_numbers_of_both_sides_and_stays() {
    let mut judge = Judge::new(Thresholds::default());
    let verdict = judge.look(&window(counts(8_120, 3), counts(412, 37)));
    assert_eq!(
        worse(&verdict),
        "worse: 37 of 412 requests failed (9.0 %), 3 of 8,120 (0.04 %) on the running version; \
         evidence 1 : 1.8e39"
    );
    assert_eq!(judge.look(&window(counts(8_120_000, 0), counts(412_000, 37))), verdict);
}

#[test]
fn a_sound_verdict_tells_how_much_worse_it_may_still_be() {
    assert_eq!(
        sound(&first(&window(counts(8_120, 3), counts(412, 0)))),
        "sound: 0 of 412 requests failed (0 %), 3 of 8,120 (0.04 %) on the running version; up to \
         2.3 points worse cannot be excluded (confidence 99 %)"
    );
    assert_eq!(
        sound(&first(&window(counts(100_000, 30), counts(100_000, 31)))),
        "sound: 31 of 100,000 requests failed (0.03 %), 30 of 100,000 (0.03 %) on the running \
         version; shown to be at most 0.06 points worse (confidence 99 %)"
    );
}

#[test]
fn what_looks_bad_and_is_not_yet_proven_is_neither_promoted_nor_rolled_back() {
    let mut judge = Judge::new(Thresholds::default());
    judge.look(&window(counts(2_000, 0), counts(200, 0)));
    let verdict = judge.look(&window(counts(4_000, 0), counts(400, 4)));
    assert_eq!(
        verdict,
        Verdict::TooFew(
            "undecided: 4 of 400 requests failed (1.0 %), 0 of 4,000 (0 %) on the running version; \
             evidence 1 : 75, and 1 : 700 is enough"
                .to_owned()
        )
    );
    let verdict = judge.look(&window(counts(40_000, 0), counts(4_000, 4)));
    assert!(matches!(verdict, Verdict::Sound(_)), "{verdict:?}");
}

#[test]
fn a_candidate_that_gets_everything_is_judged_by_itself() {
    let nothing = counts(0, 0);
    let verdict = first(&window(nothing.clone(), counts(60, 50)));
    assert_eq!(
        worse(&verdict),
        "worse: 50 of 60 requests failed (83 %), the running version had none to compare with; \
         evidence 1 : 1.7e5"
    );
    let verdict = first(&window(nothing.clone(), counts(200, 0)));
    assert!(matches!(verdict, Verdict::TooFew(_)), "{verdict:?}");
    assert!(matches!(first(&window(nothing, counts(2_000, 0))), Verdict::Sound(_)));
}

#[test]
fn an_outage_of_both_sides_is_nobodys_fault() {
    let all = |exchanges| Counts { errors: exchanges, ..counts(exchanges, 0) };
    let verdict = at_last(Thresholds::default(), &window(all(20_000), all(1_000)));
    assert!(matches!(verdict, Verdict::Sound(_)), "{verdict:?}");
}

#[test]
fn more_answers_of_filters_are_worse_and_fewer_are_not() {
    let replies = |local_replies| Counts { local_replies, ..counts(10_000, 0) };
    let judged = |next| at_last(Thresholds::default(), &window(replies(1_000), replies(next)));
    assert_eq!(
        worse(&judged(4_000)),
        "worse: 80 of 200 requests were answered by a filter (40 %), 20 of 200 (10 %) on the \
         running version; evidence 1 : 791"
    );
    assert!(matches!(judged(1_400), Verdict::Sound(_)));
    assert!(matches!(judged(0), Verdict::Sound(_)));
    let untold = Thresholds { local_replies: None, ..Thresholds::default() };
    let verdict = at_last(untold, &window(replies(1_000), replies(4_000)));
    assert!(matches!(verdict, Verdict::Sound(_)), "{verdict:?}");
}

#[test]
fn longer_times_are_worse_beyond_twice_and_the_slack() {
    let times = |buckets: &[(usize, u64)]| {
        let mut side = counts(10_000, 0);
        buckets.iter().for_each(|(bucket, count)| side.added_time.buckets[*bucket] = *count);
        side
    };
    let usual = [(8, 9_950), (10, 50)];
    let judged =
        |next: &[(usize, u64)]| at_last(Thresholds::default(), &window(times(&usual), times(next)));
    for (next, is_worse) in [
        (usual, false),
        ([(9, 9_950), (10, 50)], false),
        ([(10, 9_950), (11, 50)], true),
        ([(8, 9_950), (20, 50)], false),
        ([(8, 9_000), (10, 1_000)], true),
    ] {
        let verdict = judged(&next);
        assert_eq!(matches!(verdict, Verdict::Worse(_)), is_worse, "{next:?} {verdict:?}");
    }
    assert_eq!(
        worse(&judged(&[(10, 9_950), (11, 50)])),
        "worse: 299 of 299 requests took more than 512 µs in filters (100 %), 1 of 299 (0.33 %) on \
         the running version, where 50 % take at most 256 µs; evidence 1 : 1.5e24"
    );
    assert_eq!(
        worse(&judged(&[(8, 9_000), (10, 1_000)])),
        "worse: 40 of 400 requests took more than 512 µs in filters (10 %), 2 of 400 (0.50 %) on \
         the running version, where 99 % take at most 256 µs; evidence 1 : 770"
    );
    let untold = Thresholds { time: None, ..Thresholds::default() };
    let verdict = at_last(untold, &window(times(&usual), times(&[(20, 10_000)])));
    assert!(matches!(verdict, Verdict::Sound(_)), "{verdict:?}");
}

#[test]
fn the_first_times_of_a_candidate_do_not_count() {
    let side = |bucket: usize, exchanges| {
        let mut side = counts(exchanges, 0);
        side.added_time.buckets[bucket] = exchanges;
        side
    };
    for (first, is_worse) in [(19, false), (20, true)] {
        let mut judge = Judge::new(Thresholds::default());
        let verdict = judge.look(&window(side(3, 1_000), side(20, first)));
        assert!(matches!(verdict, Verdict::TooFew(_)), "{verdict:?}");
        let verdict = judge.look(&window(side(3, 2_000), side(20, 500)));
        assert_eq!(matches!(verdict, Verdict::Worse(_)), is_worse, "{first} {verdict:?}");
        let verdict = judge.look(&window(side(3, 3_000), side(20, 1_000)));
        assert!(matches!(verdict, Verdict::Worse(_)), "{first} {verdict:?}");
    }
}

#[test]
fn memory_is_compared_with_the_most_that_the_running_version_took() {
    let mut judge = Judge::new(Thresholds::default());
    let mut look = |running: u64, next: u64| {
        let side = |memory_bytes| Counts { memory_bytes, ..counts(100, 0) };
        judge.look(&window(side(running), side(next)))
    };
    let (mib, least) = (1 << 20, 8 << 20);
    assert!(matches!(look(least, 24 * mib), Verdict::Sound(_)));
    assert!(matches!(look(40 * mib, 80 * mib), Verdict::Sound(_)));
    assert!(matches!(look(least, 80 * mib), Verdict::Sound(_)));
    assert_eq!(
        worse(&look(least, 80 * mib + 1)),
        "worse: 80 MiB of memory, at most 40 MiB on the running version and 80 MiB tolerated"
    );
    let mut unwatched = Judge::new(Thresholds { memory: None, ..Thresholds::default() });
    let next = Counts { memory_bytes: u64::MAX, ..counts(100, 0) };
    assert!(matches!(unwatched.look(&window(counts(100, 0), next)), Verdict::Sound(_)));
}

#[test]
fn differences_of_a_shadow_inform_and_failures_decide() {
    let different = Differences {
        same: 800,
        status: 150,
        headers: 40,
        body: 10,
        slower: 900,
        skipped: 7,
        ..Differences::default()
    };
    assert_eq!(
        sound(&first(&shadow(1_000, different))),
        "sound: 0 of 1,000 copies failed (0 %); shown to be at most 1.0 points worse (confidence \
         99 %); 200 of 1,000 copies differ (20 %): 150 in status, 40 in fields, 10 in body; 900 \
         slower, 7 skipped"
    );
    let failed = Differences { failed: 12, ..different };
    assert_eq!(
        worse(&first(&shadow(1_000, failed))),
        "worse: 12 of 1,000 copies failed (1.2 %); evidence 1 : 7.4e6"
    );
    let few = first(&shadow(99, Differences::default()));
    assert!(matches!(few, Verdict::TooFew(_)), "{few:?}");
}

#[test]
fn differences_of_a_shadow_decide_when_they_are_told_to() {
    type Set = fn(&mut Thresholds, Option<f64>);
    type Count = fn(&mut Differences) -> &mut u64;
    let measures: [(Set, Count); 4] = [
        (|it, share| it.shadow_status = share, |it| &mut it.status),
        (|it, share| it.shadow_headers = share, |it| &mut it.headers),
        (|it, share| it.shadow_body = share, |it| &mut it.body),
        (|it, share| it.shadow_slower = share, |it| &mut it.slower),
    ];
    for (set, count) in measures {
        for (share, differ, is_worse) in
            [(None, 1_000, false), (Some(0.1), 90, false), (Some(0.1), 200, true)]
        {
            let mut thresholds = Thresholds::default();
            set(&mut thresholds, share);
            let mut differences = Differences::default();
            *count(&mut differences) = differ;
            let verdict = Judge::new(thresholds).look(&shadow(1_000, differences));
            assert_eq!(matches!(verdict, Verdict::Worse(_)), is_worse, "{verdict:?}");
        }
    }
}

#[test]
fn a_shadow_that_answers_with_errors_is_found() {
    let mut seen = shadow(1_000, Differences { status: 1_000, ..Differences::default() });
    seen.next.errors = 1_000;
    assert!(worse(&at_last(Thresholds::default(), &seen)).contains("requests got a 5xx"));
}

#[test]
fn windows_and_thresholds_that_make_no_sense_do_not_break_it() {
    for number in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let tolerance = Tolerance { ratio: number, share: number };
        let thresholds = Thresholds {
            samples_min: 0,
            error_chance: number,
            margin: number,
            failures: tolerance,
            errors: Some(tolerance),
            local_replies: Some(tolerance),
            time: Some(Duration::MAX),
            memory: Some(MemoryTolerance { ratio: number, bytes: u64::MAX }),
            shadow_status: Some(number),
            shadow_headers: Some(number),
            shadow_body: Some(number),
            shadow_slower: Some(number),
        };
        let most = Counts {
            exchanges: u64::MAX,
            failures: u64::MAX,
            local_replies: u64::MAX,
            errors: u64::MAX,
            added_time: Distribution { buckets: [u64::MAX; 22], nanoseconds: u64::MAX },
            memory_bytes: u64::MAX,
        };
        let mut judge = Judge::new(thresholds);
        for (running, next) in [
            (Counts::default(), Counts::default()),
            (most.clone(), Counts::default()),
            (Counts::default(), most.clone()),
            (most.clone(), most),
        ] {
            judge.look(&window(running, next));
        }
    }
}
