//! Places, the queue and its deadline, with paused time.

use super::*;
use std::time::SystemTime;
use tokio::time::timeout;

fn policy(requests_max: usize, queue_max: usize) -> config::Overload {
    config::Overload {
        requests_max,
        queue_max,
        queue_timeout: Duration::from_millis(100),
        adaptive: false,
        requests_min: 1,
    }
}

fn limiter(policy: &config::Overload) -> (Admission, Arc<OverloadStats>) {
    let metrics = Metrics::new(1, SystemTime::now());
    let limiter = Limiters::default().of("listener:a", Some(policy), &metrics);
    (Admission { listener: limiter, process: None }, metrics.overload("listener:a"))
}

/// Is it waiting in the queue?
async fn is_waiting(entering: impl Future<Output = Result<Places, Shed>>) -> bool {
    timeout(Duration::ZERO, entering).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_are_under_way_and_the_next_one_is_turned_away() {
    let (admission, stats) = limiter(&policy(2, 0));
    let one = admission.enter().await.unwrap();
    let two = admission.enter().await.unwrap();
    assert_eq!(admission.enter().await.err(), Some(Shed::QueueFull));
    drop(one);
    let three = admission.enter().await.unwrap();
    assert_eq!((stats.running(), stats.limit(), stats.shed_so_far(Shed::QueueFull)), (2, 2, 1));
    drop((two, three));
    assert_eq!(stats.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn so_many_wait_in_the_order_in_which_they_came() {
    let (admission, stats) = limiter(&policy(1, 2));
    let first = admission.enter().await.unwrap();
    let second = tokio::spawn({
        let admission = admission.clone();
        async move { admission.enter().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(stats.queued(), 1);
    let third = tokio::spawn({
        let admission = admission.clone();
        async move { admission.enter().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(stats.queued(), 2);
    assert_eq!(admission.enter().await.err(), Some(Shed::QueueFull));
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert!(!third.is_finished());
    assert_eq!((stats.running(), stats.queued()), (1, 1));
    drop(second);
    drop(third.await.unwrap().unwrap());
    assert_eq!((stats.running(), stats.queued()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_its_deadline() {
    let millisecond = Duration::from_millis(1);
    let policy = policy(1, 1);
    for (time, admitted) in
        [(policy.queue_timeout - millisecond, true), (policy.queue_timeout + millisecond, false)]
    {
        let (admission, stats) = limiter(&policy);
        let first = admission.enter().await.unwrap();
        let leaving = async {
            tokio::time::sleep(time).await;
            drop(first);
        };
        let (entered, ()) = tokio::join!(admission.enter(), leaving);
        assert_eq!(entered.is_ok(), admitted, "{time:?}");
        assert_eq!(stats.shed_so_far(Shed::QueueTimeout), u64::from(!admitted));
        drop(entered);
        assert_eq!((stats.running(), stats.queued()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_no_place_behind() {
    let (admission, stats) = limiter(&policy(1, 1));
    let first = admission.enter().await.unwrap();
    assert!(is_waiting(admission.enter()).await);
    assert_eq!(stats.queued(), 0);
    // Given its place before it leaves, it hands it on.
    let mut entering = Box::pin(admission.enter());
    assert!(is_waiting(&mut entering).await);
    drop(first);
    assert_eq!(stats.running(), 1);
    drop(entering);
    assert_eq!(stats.running(), 0);
    assert!(admission.enter().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn both_limits_hold_and_who_waits_for_one_holds_no_place_of_the_other() {
    let metrics = Metrics::new(1, SystemTime::now());
    let limiters = Limiters::default();
    let admission = Admission {
        listener: limiters.of("listener:a", Some(&policy(1, 1)), &metrics),
        process: limiters.of("process", Some(&policy(2, 0)), &metrics),
    };
    let other = Admission { listener: None, process: admission.process.clone() };
    let first = admission.enter().await.unwrap();
    assert!(is_waiting(admission.enter()).await);
    let second = other.enter().await.unwrap();
    assert_eq!(other.enter().await.err(), Some(Shed::QueueFull));
    drop(first);
    // Refused by the process, it gives the listener's place back.
    let third = other.enter().await.unwrap();
    assert_eq!(admission.enter().await.err(), Some(Shed::QueueFull));
    assert_eq!(metrics.overload("listener:a").running(), 0);
    drop((second, third));
    assert_eq!(metrics.overload("process").running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_generation_changes_the_limit_and_keeps_count() {
    let metrics = Metrics::new(1, SystemTime::now());
    let limiters = Limiters::default();
    let of = |policy: config::Overload| Admission {
        listener: limiters.of("listener:a", Some(&policy), &metrics),
        process: None,
    };
    let before = of(policy(1, 1));
    let first = before.enter().await.unwrap();
    let mut waiting = Box::pin(before.enter());
    assert!(is_waiting(&mut waiting).await);
    let after = of(policy(2, 0));
    let second = waiting.await.unwrap();
    assert_eq!(after.enter().await.err(), Some(Shed::QueueFull));
    of(policy(1, 0));
    drop(first);
    assert_eq!(after.enter().await.err(), Some(Shed::QueueFull), "one is still too many");
    drop(second);
    assert!(after.enter().await.is_ok());
    assert!(limiters.of("listener:a", None, &metrics).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_shrinks_when_answers_slow_down() {
    let policy = config::Overload { adaptive: true, requests_min: 5, ..policy(200, 0) };
    let (admission, stats) = limiter(&policy);
    let initial = stats.limit();
    let mut now = Duration::from_millis(10);
    for _ in 0..100 {
        let mut places = Vec::new();
        while let Ok(place) = admission.enter().await {
            places.push(place);
        }
        tokio::time::sleep(now).await;
        places.iter().for_each(|places| places.answered(Instant::now()));
        // Slower and slower: more is queued behind it each time.
        now = now * 12 / 10;
        if now > Duration::from_secs(60) {
            break;
        }
    }
    assert!(stats.limit() < initial / 2, "{} of {initial}", stats.limit());
    assert!(stats.limit() >= 5);
}
