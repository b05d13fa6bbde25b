//! What the generator draws arguments from.

/// What a kind of sequence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Theme {
    Classic,
    Quorum,
    Stream,
    /// Queues of all kinds.
    Mixed,
    /// Exchanges and bindings.
    Routing,
    /// Arguments that are refused, or should not be.
    Odd,
    /// Times to live.
    Timed,
}

impl Theme {
    pub(crate) const ALL: [(Self, u32); 7] = [
        (Self::Classic, 38),
        (Self::Quorum, 14),
        (Self::Stream, 6),
        (Self::Mixed, 8),
        (Self::Routing, 18),
        (Self::Odd, 12),
        (Self::Timed, 4),
    ];

    /// What its queues are declared with.
    pub(crate) fn queues(self) -> Vec<&'static str> {
        match self {
            Self::Classic => CLASSIC.to_vec(),
            Self::Quorum => QUORUM.to_vec(),
            Self::Stream => [STREAM, STREAM, &CLASSIC[..4]].concat(),
            Self::Mixed => [CLASSIC, QUORUM, QUORUM, STREAM].concat(),
            Self::Routing => PLAIN.to_vec(),
            Self::Odd => [PLAIN, ODD, ODD].concat(),
            Self::Timed => TIMED.to_vec(),
        }
    }
}

pub(crate) const PLAIN: &[&str] = &["", "", "", " durable", " exclusive", " auto_delete"];

const CLASSIC: &[&str] = &[
    "",
    "",
    " durable",
    " durable x-queue-type=Sclassic x-queue-mode=Slazy",
    " auto_delete",
    " exclusive",
    " exclusive auto_delete",
    " x-max-length=I2",
    " x-max-length=I0",
    " x-max-length-bytes=I5",
    " x-max-length=I1 x-overflow=Sreject-publish",
    " x-max-length-bytes=I4 x-overflow=Sreject-publish",
    " x-max-length=I1 x-overflow=Sreject-publish-dlx x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " x-max-length=I1 x-dead-letter-exchange=Samq.fanout",
    " x-max-length=I2 x-dead-letter-exchange=S x-dead-letter-routing-key=Sr",
    " x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " x-dead-letter-exchange=S x-dead-letter-routing-key=Sq",
    " x-dead-letter-exchange=Sx",
    " x-dead-letter-exchange=Samq.topic",
    " x-single-active-consumer=ttrue",
    " x-single-active-consumer=ttrue x-dead-letter-exchange=S x-dead-letter-routing-key=Sr",
    " x-max-priority=I3",
    " x-max-priority=I3 x-max-length=I2 x-dead-letter-exchange=Samq.headers",
    " x-max-priority=I10 x-single-active-consumer=ttrue",
];

const QUORUM: &[&str] = &[
    " durable x-queue-type=Squorum",
    " durable x-queue-type=Squorum",
    " durable x-queue-type=Squorum x-delivery-limit=I1",
    " durable x-queue-type=Squorum x-delivery-limit=I2 x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " durable x-queue-type=Squorum x-delivery-limit=I0 x-dead-letter-exchange=Samq.fanout",
    " durable x-queue-type=Squorum x-single-active-consumer=ttrue",
    " durable x-queue-type=Squorum x-max-length=I2",
    " durable x-queue-type=Squorum x-max-length=I2 x-dead-letter-exchange=S x-dead-letter-routing-key=Sr",
    " durable x-queue-type=Squorum x-dead-letter-exchange=Sx",
];

const STREAM: &[&str] = &[
    " durable x-queue-type=Sstream",
    " durable x-queue-type=Sstream",
    " durable x-queue-type=Sstream x-max-length-bytes=I1000000",
    " durable x-queue-type=Sstream x-max-age=S1h",
];

const TIMED: &[&str] = &[
    "",
    " x-message-ttl=I20",
    " x-message-ttl=I20 x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " x-message-ttl=I20 x-dead-letter-exchange=S x-dead-letter-routing-key=Sq",
    " x-message-ttl=I0 x-dead-letter-exchange=S x-dead-letter-routing-key=Sr",
    " x-message-ttl=I20 x-max-priority=I3 x-dead-letter-exchange=Samq.fanout",
    " x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " durable x-queue-type=Squorum x-message-ttl=I20 x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " durable x-queue-type=Squorum x-dead-letter-exchange=S x-dead-letter-routing-key=Sr",
];

pub(crate) const ODD: &[&str] = &[
    " x-expires=I0",
    " x-expires=I-1",
    " x-expires=Sa",
    " x-expires=l315360000001",
    " x-expires=I100000",
    " x-message-ttl=I-1",
    " x-message-ttl=d1.0",
    " x-message-ttl=ttrue",
    " x-message-ttl=T5",
    " x-message-ttl=V",
    " x-message-ttl=l315360000000",
    " x-max-length=I-1",
    " x-max-length=S5",
    " x-max-length=b5",
    " x-max-length=B5",
    " x-max-length=s5",
    " x-max-length=u5",
    " x-max-length=i5",
    " x-max-length=l5",
    " x-max-length=f5",
    " x-max-length-bytes=ASa",
    " x-overflow=Sno",
    " x-overflow=I1",
    " x-overflow=Sdrop-head",
    " x-dead-letter-exchange=I1",
    " x-dead-letter-exchange=Snowhere",
    " x-dead-letter-routing-key=Sk",
    " x-dead-letter-exchange=Sx x-dead-letter-routing-key=I1",
    " x-dead-letter-strategy=Sat-most-once",
    " x-max-priority=I256",
    " x-max-priority=I255",
    " x-max-priority=I-1",
    " x-max-priority=I0",
    " x-max-priority=Sa",
    " x-queue-mode=Sno",
    " x-queue-mode=Sdefault",
    " x-queue-mode=I1",
    " x-queue-version=I1",
    " x-queue-version=I2",
    " x-queue-version=I3",
    " x-queue-type=Sno",
    " x-queue-type=I1",
    " x-queue-type=Sclassic",
    " x-queue-type=S",
    " x-single-active-consumer=I1",
    " x-single-active-consumer=tfalse",
    " x-delivery-limit=I5",
    " x-max-age=S1h",
    " x-queue-leader-locator=Sclient-local",
    " x-unknown=I1 plain=F",
    " x-queue-type=Squorum",
    " exclusive x-queue-type=Squorum",
    " durable auto_delete x-queue-type=Squorum",
    " durable x-queue-type=Squorum x-max-priority=I5",
    " durable x-queue-type=Squorum x-delivery-limit=I-1",
    " durable x-queue-type=Squorum x-delivery-limit=Sa",
    " durable x-queue-type=Squorum x-overflow=Sreject-publish-dlx",
    " durable x-queue-type=Squorum x-quorum-initial-group-size=I0",
    " durable x-queue-type=Squorum x-dead-letter-strategy=Sno",
    " x-queue-type=Sstream",
    " durable exclusive x-queue-type=Sstream",
    " durable x-queue-type=Sstream x-max-age=S5x",
    " durable x-queue-type=Sstream x-max-age=I5",
    " durable x-queue-type=Sstream x-message-ttl=I5",
    " durable x-queue-type=Sstream x-max-length=I5",
    " durable x-queue-type=Sstream x-stream-max-segment-size-bytes=I-5",
    " durable x-queue-type=Sstream x-single-active-consumer=ttrue",
];

/// Headers of messages and of bindings.
pub(crate) const HEADERS: &[&str] = &[
    "a=I1",
    "a=l1",
    "a=Sx",
    "a=d1",
    "a=ttrue",
    "a=V",
    "a=F",
    "a=A",
    "a=T1",
    "a=I1 b=Sx",
    "a=I1 x-c=I1",
    "x-c=I1",
    "x-c=I2 b=Sx",
    "",
];

pub(crate) const MATCHES: &[&str] = &[
    "",
    "x-match=Sall",
    "x-match=Sany",
    "x-match=Sall-with-x",
    "x-match=Sany-with-x",
    "x-match=Sall",
    "x-match=Sany",
    "x-match=Ssome",
    "x-match=I1",
];

pub(crate) const KEYS: &[&str] = &[
    "-", "a", "a.b", "a.b.c", "b", ".", "a.", "*", "#", "a.*", "*.b", "a.#", "#.b", "*.*", "#.#", "*.#", "q",
    "p",
];

/// Options of a publish; the first ones are the usual ones.
pub(crate) const PUBLISH: &[&str] = &[
    "",
    "",
    "",
    "",
    " mandatory",
    " mandatory",
    " p.priority=9",
    " p.priority=1",
    " p.priority=0",
    " p.mode=2",
    " CC=ASp,Sr",
    " CC=ASp BCC=ASr",
    " BCC=ASq mandatory",
    " CC=ASq,ASp",
    " a=I1 mandatory",
    " a=I1 b=Sx",
    " p.type=text/plain p.id=7 p.app=t p.kind=k p.encoding=e p.correlation=c p.time=5 p.cluster=z",
    " p.user=guest",
    " p.expiration=60000",
    " large",
];

pub(crate) const ODD_PUBLISH: &[&str] = &[
    " immediate",
    " p.user=no",
    " p.expiration=a",
    " p.expiration=-1",
    " p.expiration=1.5",
    " p.expiration=~1",
    " p.expiration=315360000001",
    " p.mode=3",
    " p.mode=0",
    " CC=Sp",
    " CC=I1",
    " BCC=Sp mandatory",
    " CC=AI1,Sp",
    " x-death=I1",
    " x-death=A",
    " p.reply_to=amq.rabbitmq.reply-to",
    " p.reply_to=elsewhere",
    " x-delivery-count=I5",
    " x-stream-offset=I5",
];
