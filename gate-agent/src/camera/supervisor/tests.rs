use super::*;
use crate::camera::Camera;
use crate::clock::ManualClock;
use sallyport_vision::Frame;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// What the test tells a camera to do next.
enum Do {
    Frame(u8),
    Unplug,
    Hang(Receiver<()>),
}

const NEVER: Duration = Duration::from_secs(1 << 40);

struct Scripted {
    orders: Arc<Mutex<Receiver<Do>>>,
    /// Errors of the next attempts to open.
    refusals: Mutex<VecDeque<&'static str>>,
    opened: AtomicUsize,
}

struct OpenCamera(Arc<Mutex<Receiver<Do>>>);

impl Camera for OpenCamera {
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError> {
        let order = self.0.lock().unwrap().recv();
        match order {
            Ok(Do::Frame(grey)) => Ok(Some(
                Frame::from_bgr(
                    "c",
                    sallyport_domain::Timestamp::from_micros(0),
                    4,
                    4,
                    &[grey; 48],
                )
                .unwrap(),
            )),
            Ok(Do::Unplug) => Err(CameraError("unplugged".to_owned())),
            Ok(Do::Hang(until)) => {
                let _ = until.recv();
                Err(CameraError("late".to_owned()))
            }
            Err(_) => Ok(None),
        }
    }
}

impl CameraOpener for Scripted {
    fn name(&self) -> &str {
        "c"
    }
    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(CameraError(refusal.to_owned()));
        }
        Ok(Box::new(OpenCamera(self.orders.clone())))
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    stop: Stop,
    board: Arc<HealthBoard>,
    inbox: Arc<Inbox<()>>,
    camera: Arc<Scripted>,
    orders: Option<Sender<Do>>,
    events: Receiver<AgentEvent>,
    thread: Option<thread::JoinHandle<()>>,
}

/// `stalled_after` is long where stalling is not the subject: simulated time runs far faster than
/// a busy machine schedules threads.
fn bench(refusals: &[&'static str], stalled_after: Duration) -> Bench {
    let (orders, receiver) = channel();
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let camera = Arc::new(Scripted {
        orders: Arc::new(Mutex::new(receiver)),
        refusals: Mutex::new(refusals.iter().copied().collect()),
        opened: AtomicUsize::new(0),
    });
    let clock = Arc::new(ManualClock::default());
    let stop = Stop::default();
    let board = Arc::new(HealthBoard::new(["c".to_owned()].into_iter()));
    let inbox = Arc::new(Inbox::new(1, 0));
    let supervised = Supervised {
        index: 0,
        opener: camera.clone(),
        policy: SupervisorPolicy {
            watchdog: WatchdogPolicy {
                stalled_after,
                frozen_after: Some(Duration::from_secs(10)),
            },
            ..SupervisorPolicy::default()
        },
        clock: clock.clone(),
        inbox: inbox.clone(),
        board: board.clone(),
        events: EventSink::new(move |event| drop(sender.lock().unwrap().send(event))),
        stop: stop.clone(),
    };
    let thread = thread::spawn(move || supervise(&supervised));
    Bench {
        clock,
        stop,
        board,
        inbox,
        camera,
        orders: Some(orders),
        events,
        thread: Some(thread),
    }
}

impl Bench {
    fn order(&self, order: Do) {
        self.orders.as_ref().unwrap().send(order).unwrap();
    }

    /// Lets time run until the health is as expected; returns the simulated time that took.
    fn until(&self, wanted: impl Fn(&CameraHealth) -> bool) -> Duration {
        let start = self.clock.mono();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !wanted(&self.board.all()[0].1) {
            assert!(Instant::now() < deadline, "stays {:?}", self.board.all());
            self.clock.advance(Duration::from_millis(50));
            thread::yield_now();
        }
        self.clock.mono().since(start)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.set();
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_camera_unplugged_mid_stream_comes_back() {
    let bench = bench(&["not there yet", "not there yet"], NEVER);
    bench.until(|health| matches!(health, CameraHealth::Failed(_)));
    bench.order(Do::Frame(1));
    bench.until(|health| *health == CameraHealth::Ok);
    assert_eq!(bench.camera.opened.load(Ordering::SeqCst), 3);
    bench.order(Do::Unplug);
    bench.until(|health| matches!(health, CameraHealth::Failed(error) if error.0 == "unplugged"));
    assert!(
        bench.inbox.take_frame(0).is_none(),
        "no old frame of a dead camera"
    );
    bench.order(Do::Frame(2));
    bench.until(|health| *health == CameraHealth::Ok);
    assert!(bench.inbox.take_frame(0).is_some());
    assert!(bench.events.try_iter().count() >= 4);
}

#[test]
fn a_frozen_picture_is_noticed() {
    let bench = bench(&[], NEVER);
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.board.all()[0].1 != CameraHealth::Frozen {
        assert!(Instant::now() < deadline);
        bench.order(Do::Frame(7));
        bench.clock.advance(Duration::from_millis(200));
        thread::yield_now();
    }
}

#[test]
fn a_hanging_reader_is_abandoned_and_too_many_are_not_opened() {
    let bench = bench(&[], Duration::from_secs(4));
    // Whichever reader asks first gets the first order: each hangs in the driver.
    let mut hold = Vec::new();
    for _ in 0..SupervisorPolicy::default().hanging_readers {
        let (release, held) = channel();
        bench.order(Do::Hang(held));
        hold.push(release);
    }
    bench.until(|health| *health == CameraHealth::Stuck);
    let opened = bench.camera.opened.load(Ordering::SeqCst);
    assert!(opened <= 3);
    // The driver lets go: the camera is tried again. A reader that was given up in between may
    // swallow a frame, so they keep coming.
    drop(hold);
    let frames = std::cell::Cell::new(0_u8);
    bench.until(|health| {
        frames.set(frames.get().wrapping_add(1));
        bench.order(Do::Frame(frames.get()));
        *health == CameraHealth::Ok
    });
    assert!(bench.camera.opened.load(Ordering::SeqCst) > opened);
}
